import { CaissonError, describeError } from '../../lib/errors.ts';
import { execPlugin } from './exec.ts';
import type { CniCommand, PluginCall } from './exec.ts';
import { parseResult } from './result.ts';
import type { Attachment, CniNetwork, CniPlugin, CniResult, PluginRunner } from './types.ts';

/**
 * ADD of every plugin in order, each told the result of the one before. On failure what was made is undone by DEL of
 * all plugins; an error of that DEL goes to `onCleanupError`. Throws what `execPlugin` throws.
 */
export async function addChain(
  runner: PluginRunner,
  attachment: Attachment,
  signal: AbortSignal,
  onCleanupError: (error: unknown) => void,
): Promise<CniResult> {
  let result: CniResult | undefined;
  try {
    for (const plugin of attachment.network.plugins) {
      const printed = await execPlugin(runner, callOf('ADD', plugin, attachment, result), signal);
      result = parseResult(printed, plugin.type);
    }
    if (result) return result;
    throw new CaissonError('internal', `CNI network ${attachment.network.name} has no plugins`);
  } catch (error) {
    await delChain(runner, attachment, result).catch(onCleanupError);
    throw error;
  }
}

/** CHECK of every plugin in order, where version and configuration have it. Throws `failed_precondition`. */
export async function checkChain(
  runner: PluginRunner,
  attachment: Attachment,
  result: CniResult,
  signal: AbortSignal,
): Promise<void> {
  const { network } = attachment;
  if (network.disableCheck || network.cniVersion.startsWith('0.3.')) return;
  for (const plugin of network.plugins) {
    await execPlugin(runner, callOf('CHECK', plugin, attachment, result), signal).catch((error: unknown) => {
      throw new CaissonError('failed_precondition', describeError(error), { cause: error });
    });
  }
}

/**
 * DEL of every plugin, last first. One that fails does not keep the others from cleaning up; then it throws
 * `unavailable` with all the plugins' words. DEL is idempotent by the specification, so a retry runs all of them again.
 */
export async function delChain(runner: PluginRunner, attachment: Attachment, result?: CniResult): Promise<void> {
  const errors: unknown[] = [];
  for (const plugin of attachment.network.plugins.toReversed()) {
    await execPlugin(runner, callOf('DEL', plugin, attachment, result)).catch((error: unknown) => errors.push(error));
  }
  if (errors.length === 0) return;
  const cause = errors.length === 1 ? errors[0] : new AggregateError(errors);
  throw new CaissonError('unavailable', errors.map(describeError).join('; '), { cause });
}

/** STATUS of every plugin in order; plugins older than 1.1.0 are not asked. Throws what `execPlugin` throws. */
export async function statusChain(runner: PluginRunner, network: CniNetwork, signal: AbortSignal): Promise<void> {
  if (network.cniVersion !== '1.1.0') return;
  for (const plugin of network.plugins) {
    const stdin = pluginInput(plugin, network, undefined);
    await execPlugin(runner, { type: plugin.type, command: 'STATUS', env: {}, stdin }, signal);
  }
}

function callOf(command: CniCommand, plugin: CniPlugin, attachment: Attachment, prevResult?: CniResult): PluginCall {
  const runtimeConfig = runtimeConfigOf(plugin, attachment.capabilityArgs);
  return {
    type: plugin.type,
    command,
    env: {
      CNI_CONTAINERID: attachment.containerId,
      CNI_NETNS: attachment.netnsPath,
      CNI_IFNAME: attachment.ifName,
      CNI_ARGS: attachment.args,
    },
    stdin: { ...pluginInput(plugin, attachment.network, prevResult), ...(runtimeConfig && { runtimeConfig }) },
  };
}

function pluginInput(plugin: CniPlugin, network: CniNetwork, prevResult: CniResult | undefined): object {
  const { capabilities: _replacedByRuntimeConfig, ...configuration } = plugin;
  const { name, cniVersion } = network;
  return { ...configuration, name, cniVersion, ...(prevResult && { prevResult }) };
}

/** The values of those capabilities that the plugin declares, undefined if there are none. */
function runtimeConfigOf(plugin: CniPlugin, values: Attachment['capabilityArgs']): object | undefined {
  const declared = Object.entries(values).filter(([capability]) => plugin.capabilities?.[capability] === true);
  return declared.length === 0 ? undefined : Object.fromEntries(declared);
}
