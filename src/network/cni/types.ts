import { z } from 'zod';

/** Shapes of the CNI specification, 0.3.0 to 1.1.0. Unknown keys are kept: they belong to the plugins. */

export const supportedVersions = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type CniVersion = (typeof supportedVersions)[number];

const flag = z.union([z.boolean(), z.enum(['true', 'false']).transform((text) => text === 'true')]);

export const pluginSchema = z.looseObject({
  type: z.string().regex(/^[^/\0]+$/, 'must be the file name of a plugin'),
  capabilities: z.record(z.string(), z.boolean()).optional(),
});
export type CniPlugin = z.infer<typeof pluginSchema>;

export const networkFileSchema = z.looseObject({
  cniVersion: z.string().optional(),
  cniVersions: z.array(z.string()).optional(),
  name: z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/, 'must be letters, digits, dots, dashes and underscores'),
  disableCheck: flag.default(false),
  plugins: z.array(pluginSchema).min(1),
});

/** One network configuration list, ready to run. */
export const networkSchema = z.object({
  name: z.string(),
  cniVersion: z.enum(supportedVersions),
  disableCheck: z.boolean(),
  plugins: z.array(pluginSchema).readonly(),
  /** the file it was read from */
  source: z.string(),
});
export type CniNetwork = z.infer<typeof networkSchema>;

/** What ADD prints. Only what Caisson reads is checked; the whole goes to the next plugin as it is. */
export const resultSchema = z.looseObject({
  cniVersion: z.string().optional(),
  interfaces: z
    .array(z.looseObject({ name: z.string(), mac: z.string().optional(), sandbox: z.string().optional() }))
    .default([]),
  ips: z
    .array(
      z.looseObject({
        address: z.string(),
        gateway: z.string().optional(),
        interface: z.int().optional(),
      }),
    )
    .default([]),
  dns: z
    .looseObject({
      nameservers: z.array(z.string()).default([]),
      domain: z.string().optional(),
      search: z.array(z.string()).default([]),
      options: z.array(z.string()).default([]),
    })
    .prefault({}),
});
export type CniResult = z.infer<typeof resultSchema>;

/** A plugin's own error, as the specification has it. `code` 50 and 51 in answer to STATUS mean not ready. */
export const pluginErrorSchema = z.looseObject({
  code: z.int(),
  msg: z.string(),
  details: z.string().default(''),
});
export type PluginError = Pick<z.infer<typeof pluginErrorSchema>, 'code' | 'msg' | 'details'>;

/** Everything a plugin is told about one pod: written to disk before ADD, so that DEL says the same. */
export const attachmentSchema = z.object({
  network: networkSchema,
  containerId: z.string(),
  netnsPath: z.string(),
  ifName: z.string(),
  /** the value of CNI_ARGS */
  args: z.string(),
  /** values of runtimeConfig by capability; a plugin gets those it declares */
  capabilityArgs: z.record(z.string(), z.unknown()),
});
export type Attachment = z.infer<typeof attachmentSchema>;

/** How plugins are run on this node. */
export interface PluginRunner {
  readonly binDirs: readonly string[];
  readonly timeoutMs: number;
}
