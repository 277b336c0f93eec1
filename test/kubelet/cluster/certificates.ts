import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../src/lib/exec.ts';

export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
}

/** The cluster's own authority, good for a day. */
export interface Authority {
  readonly caFile: string;
  /** pairs for service account tokens, which are no certificates */
  makeKey(name: string): Promise<{ readonly privateFile: string; readonly publicFile: string }>;
  /** `/O=group/CN=user` as Kubernetes reads them; `names` are those of a server */
  sign(name: string, subject: string, names?: readonly string[]): Promise<Certificate>;
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc', '-days', '1'];

export async function makeAuthority(directory: string): Promise<Authority> {
  const caFile = join(directory, 'ca.crt');
  const caKey = join(directory, 'ca.key');
  // what the machine's own openssl.cnf says does not count
  const config = join(directory, 'openssl.cnf');
  await writeFile(config, '[req]\ndistinguished_name=name\n[name]\n');
  const make = async (keyFile: string, certFile: string, more: readonly string[]): Promise<void> => {
    const output = ['-keyout', keyFile, '-out', certFile];
    await run('openssl', ['req', '-config', config, '-x509', ...NEW_KEY, ...output, ...more]);
  };
  await make(caKey, caFile, ['-subj', '/CN=caisson-test', '-addext', 'basicConstraints=critical,CA:TRUE']);
  return {
    caFile,
    makeKey: async (name) => {
      const [privateFile, publicFile] = [join(directory, `${name}.key`), join(directory, `${name}.pub`)];
      await run('openssl', ['genrsa', '-out', privateFile, '2048']);
      await run('openssl', ['rsa', '-in', privateFile, '-pubout', '-out', publicFile]);
      return { privateFile, publicFile };
    },
    sign: async (name, subject, names = []) => {
      const certificate = { certFile: join(directory, `${name}.crt`), keyFile: join(directory, `${name}.key`) };
      await make(certificate.keyFile, certificate.certFile, [
        ...['-CA', caFile, '-CAkey', caKey, '-subj', subject, '-addext', 'basicConstraints=CA:FALSE'],
        ...(names.length === 0 ? [] : ['-addext', `subjectAltName=${names.join(',')}`]),
      ]);
      return certificate;
    },
  };
}
