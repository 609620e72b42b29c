process.send(require('node:os').availableParallelism(), () => process.disconnect());
