import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../../src/config/schema.ts';
import { run } from '../../src/lib/exec.ts';
import { removeTree } from '../../src/lib/files.ts';

export interface CniOptions {
  /** IPv4 and IPv6; IPv4 alone if left out */
  readonly dualStack?: boolean;
  readonly ipMasq?: boolean;
  /** adds the bandwidth plugin */
  readonly bandwidth?: boolean;
  /** leaves portmap out, for hosts without iptables */
  readonly portmap?: boolean;
  readonly mtu?: number;
}

/** A CNI network of its own: nothing of it is shared with another test, and all of it goes with it. */
export interface CniDirectory extends AsyncDisposable {
  /** for `openNetwork` */
  readonly config: Config['network'];
  readonly confDir: string;
  /** an empty directory for `openNetwork`'s stateDir */
  readonly stateDir: string;
  readonly bridge: string;
  /** `10.x.y` of 10.x.y.0/24; the gateway is .1 */
  readonly prefix4: string;
  /** `fdxx:yyyy:zzzz::` of a /64; the gateway is ::1 */
  readonly prefix6: string;
  /** where host-local keeps one file per reserved address */
  readonly reservations: string;
  /** appends a plugin to the conflist */
  addPlugin(plugin: { readonly type: string }): Promise<void>;
}

/** Writes a conflist for Debian's plugins (bridge, host-local, portmap) into a temporary directory. */
export async function makeCniConfDir(options: CniOptions = {}): Promise<CniDirectory> {
  const [a = 0, b = 0, ...rest] = randomBytes(8);
  const id = Buffer.from([a, b, ...rest.slice(0, 2)]).toString('hex');
  const root = await mkdtemp(join(tmpdir(), 'caisson-cni-'));
  const name = `test-${id}`;
  const bridge = `cst${id}`;
  const prefix4 = `10.${200 + (a % 55)}.${b}`;
  // no group begins with 0, which `ip` would not print
  const prefix6 = `fd${id.slice(0, 2)}:1${id.slice(2, 5)}:1${id.slice(5, 8)}::`;
  const ranges = [
    [{ subnet: `${prefix4}.0/24` }],
    ...(options.dualStack === true ? [[{ subnet: `${prefix6}/64` }]] : []),
  ];
  const routes = [{ dst: '0.0.0.0/0' }, ...(options.dualStack === true ? [{ dst: '::/0' }] : [])];
  const plugins = [
    {
      type: 'bridge',
      bridge,
      isGateway: true,
      ipMasq: options.ipMasq ?? false,
      hairpinMode: true,
      ...(options.mtu !== undefined && { mtu: options.mtu }),
      ipam: { type: 'host-local', dataDir: join(root, 'ipam'), ranges, routes },
    },
    ...(options.portmap === false ? [] : [{ type: 'portmap', capabilities: { portMappings: true } }]),
    ...(options.bandwidth === true ? [{ type: 'bandwidth', capabilities: { bandwidth: true } }] : []),
  ];
  const confDir = join(root, 'net.d');
  await mkdir(confDir);
  const write = async (all: readonly object[]): Promise<void> =>
    writeFile(join(confDir, '10-test.conflist'), JSON.stringify({ cniVersion: '1.0.0', name, plugins: all }));
  await write(plugins);
  return {
    config: { conf_dir: confDir, bin_dirs: ['/opt/cni/bin', '/usr/lib/cni'], plugin_timeout_s: 20 },
    confDir,
    stateDir: join(root, 'state'),
    bridge,
    prefix4,
    prefix6,
    reservations: join(root, 'ipam', name),
    addPlugin: async (plugin) => write([...plugins, plugin]),
    [Symbol.asyncDispose]: async () => {
      await run('ip', ['link', 'del', bridge], { okCodes: [0, 1] });
      await removeTree(root);
    },
  };
}
