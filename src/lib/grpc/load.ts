import { loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync, type Options } from '@grpc/proto-loader';
import { isAbsolute, join } from 'node:path';

/** Must agree with the flags in generate.ts, or the generated types lie. */
const loaderOptions: Options = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };

/**
 * Loads a .proto, named by an absolute path or by one below `proto/`, such as `runtime/v1/api.proto`. The type argument
 * is the `ProtoGrpcType` generated from the same file. Messages decode to plain objects: field names as in the .proto,
 * 64 bit integers as decimal strings, enum values as names (unknown ones as numbers), bytes as Buffers, absent messages
 * as null, every other field present. Throws when the file is missing or not valid.
 */
export function loadProto<ProtoGrpcType>(file: string): ProtoGrpcType {
  const definition = loadSync(isAbsolute(file) ? file : protoPath(file), loaderOptions);
  // grpc-js cannot know the file's types; proto-loader-gen-types wrote them from the same file
  return loadPackageDefinition(definition) as unknown as ProtoGrpcType;
}

/** The absolute path of a file below the repository's `proto/`. */
export function protoPath(file: string): string {
  // not a constant: a bundle that passes absolute paths only may have no import.meta.dirname
  return join(import.meta.dirname, '../../../proto', file);
}
