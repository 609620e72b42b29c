/** Logs what the reference crate logs with `log::trace!`: `NODE_DEBUG=sandbox-host` shows it. */

import { debuglog } from 'node:util';

export const debug = debuglog('sandbox-host');
