/** The guest agent's SFTP server without a container: `sftp-server.ts HOME`. */
import { serveSftp } from '../../../guest-agent/src/sftp/serve.ts';

serveSftp(process.argv[2] ?? process.cwd());
