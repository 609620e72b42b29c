/** Sets the addon up, once: tells it which functions answer guests. Every file that runs guests imports this one. */

import { native } from '../binding/native';
import { takeEvents } from './events';
import { answerHostCall } from './host_calls';

// Native code refers to both functions weakly, or it would keep this copy of the package for ever. So the object that its functions keep
// must hold them.
Object.defineProperty(native, 'answerers', { value: [answerHostCall, takeEvents] });
native.setup(answerHostCall, takeEvents);
