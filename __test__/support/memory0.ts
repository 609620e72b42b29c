// Whether the addon can hand out a guest's memory 0 that is neither imported nor exported; if not, the reason for leaving out a test.
import { native } from '../../lib/binding/native';

export const noMemory0 =
  typeof (native as { memory0?: unknown }).memory0 === 'function' ? false : 'this addon has no memory0';
