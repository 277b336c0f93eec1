/** Configuration files of critest's web servers. */
import type { TarEntry } from '../layout.ts';

const PAGE = '<html><body>It works.</body></html>\n';

/** A server on one port; its pid is where the HostPID spec reads it. */
export function nginxConfig(port: number): TarEntry[] {
  const config = `
pid /var/run/nginx.pid;
error_log /dev/stderr notice;
worker_processes 1;
events { worker_connections 64; }
http {
  access_log /dev/stdout;
  server {
    listen ${port};
    location / { root /usr/share/nginx/html; index index.html; }
  }
}
`;
  return [
    { name: 'etc/nginx', type: 'directory' },
    { name: 'etc/nginx/nginx.conf', content: config },
    { name: 'usr/share/nginx/html', type: 'directory' },
    { name: 'usr/share/nginx/html/index.html', content: PAGE },
  ];
}

/** As files of /etc/apache2, where Debian's build looks. */
export function apacheConfig(modules: readonly string[]): TarEntry[] {
  const loads = modules.map((path) => `LoadModule ${/mod_(\w+)\.so$/.exec(path)?.[1]}_module /${path}`);
  const config = [
    ...loads,
    'ServerName localhost',
    'Listen 80',
    'User www-data',
    'Group www-data',
    'PidFile /var/run/apache2.pid',
    'DefaultRuntimeDir /var/run',
    'ErrorLog /dev/stderr',
    'DocumentRoot /var/www/html',
    'DirectoryIndex index.html',
  ];
  return [
    { name: 'etc/apache2', type: 'directory' },
    { name: 'etc/apache2/apache2.conf', content: `${config.join('\n')}\n` },
    { name: 'var/www/html', type: 'directory' },
    { name: 'var/www/html/index.html', content: PAGE },
  ];
}
