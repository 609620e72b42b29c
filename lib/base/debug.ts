/** What the reference crate logs with `log::trace!` is logged here: `NODE_DEBUG=sandbox-host` shows it. */

import { debuglog } from 'node:util';

export const debug = debuglog('sandbox-host');
