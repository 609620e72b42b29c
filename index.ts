/**
 * Run WebAssembly that you do not trust, on engines that you can meter, stop and limit. Begin with {@link SandboxComponents}; a supervisor of plain
 * functions is a {@link JsSupervisor}, one that is WebAssembly itself has a {@link SandboxHost}.
 *
 * @packageDocumentation
 */

export type { BufferSource } from './lib/base/arguments';
export {
  ArgumentError,
  BusyError,
  CodecError,
  type ErrorCode,
  InstantiationError,
  type InstantiationErrorKind,
  InternalError,
  LimitError,
  type MissingImport,
  NoExportError,
  SandboxError,
  TrapError,
  type TrapKind,
  type WasmFrame,
} from './lib/base/errors';
export { Value, type ValueOf, type ValueType } from './lib/base/values';
export { GuestEnvironment, SandboxComponents, UnregisteredInstance } from './lib/gear/components';
export type { InstantiateEvent, InvokeEvent, SupervisorEvent } from './lib/gear/diagnostics';
export { EnvironmentDefinitionBuilder } from './lib/gear/environment_builder';
export type { SupervisorAllocator } from './lib/gear/host/allocator';
export type { DispatchThunk } from './lib/gear/host/dispatch_thunk';
export type { HostFunctions } from './lib/gear/host/host_functions';
export { SandboxHost, type SandboxHostOptions } from './lib/gear/host/sandbox_host';
export type { SupervisorMemoryObject, SupervisorTableObject } from './lib/gear/host/v8';
export { SandboxInstance } from './lib/gear/instance';
export { Instantiate, MEM_UNLIMITED } from './lib/gear/instantiate';
export { JsSupervisor } from './lib/gear/js_supervisor';
export { Memory } from './lib/gear/memory';
export type { SupervisorResult } from './lib/gear/results';
export * as codec from './lib/gear/scale/index';
export type {
  AsyncSupervisorContext,
  SupervisorContext,
  SupervisorFuncIndex,
} from './lib/gear/supervisor';
export type { SupervisorCall, SupervisorFunction } from './lib/gear/supervisor_function';
export { SandboxBackend } from './lib/guest/backend';
export type { Argument } from './lib/guest/call_arguments';
export type { InvokeDefaults, InvokeOptions } from './lib/guest/call_options';
export { CompiledModule, type CompileOptions } from './lib/guest/compiled_module';
export type { SandboxFeatures } from './lib/guest/features';
export type { SandboxLimits } from './lib/guest/limits';
export type { ExportDescription, ImportDescription } from './lib/guest/module';
export { ModuleCache, type ModuleCacheOptions } from './lib/guest/module_cache';
export type { SandboxOptions } from './lib/guest/options';
