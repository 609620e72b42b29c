/**
 * Run WebAssembly that you do not trust, on engines that you can meter, stop and limit. Begin with {@link SandboxComponents}; a supervisor of plain
 * functions is a {@link JsSupervisor}, one that is WebAssembly itself has a {@link SandboxHost}.
 *
 * @packageDocumentation
 */

export type { BufferSource } from './lib/arguments';
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
} from './lib/errors';
export type { SupervisorAllocator } from './lib/host/allocator';
export type { DispatchThunk } from './lib/host/dispatch_thunk';
export type { HostFunctions } from './lib/host/host_functions';
export { SandboxHost, type SandboxHostOptions } from './lib/host/sandbox_host';
export type { SupervisorMemoryObject, SupervisorTableObject } from './lib/host/v8';
export { Instantiate, MEM_UNLIMITED, SandboxBackend } from './lib/sandbox/backend';
export { CompiledModule, type CompileOptions } from './lib/sandbox/compiled_module';
export { SandboxComponents, UnregisteredInstance } from './lib/sandbox/components';
export type { InstantiateEvent, InvokeEvent, SupervisorEvent } from './lib/sandbox/diagnostics';
export type { SupervisorCall, SupervisorFunction, SupervisorResult } from './lib/sandbox/dispatch';
export { GuestEnvironment } from './lib/sandbox/environment';
export { EnvironmentDefinitionBuilder } from './lib/sandbox/environment_builder';
export type { SandboxFeatures } from './lib/sandbox/features';
export type { ExportDescription, ImportDescription } from './lib/sandbox/guest_module';
export { type Argument, SandboxInstance } from './lib/sandbox/instance';
export { JsSupervisor } from './lib/sandbox/js_supervisor';
export type { SandboxLimits } from './lib/sandbox/limits';
export { Memory } from './lib/sandbox/memory';
export { ModuleCache, type ModuleCacheOptions } from './lib/sandbox/module_cache';
export type { InvokeDefaults, InvokeOptions, SandboxOptions } from './lib/sandbox/options';
export type {
  AsyncSupervisorContext,
  SupervisorContext,
  SupervisorFuncIndex,
} from './lib/sandbox/supervisor';
export * as codec from './lib/scale/index';
export { Value, type ValueOf, type ValueType } from './lib/values';
