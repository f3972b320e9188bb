#!/usr/bin/env python3
"""An nginx or an HAProxy in front of OpenAI servers, with one worker and set up as its users do for
streams: answers are passed on unbuffered, connections to the servers are kept. For the tests and benchmarks that hold
pdserve's gateway against them, or put it behind them.

  tools/run_proxy.py nginx --folder DIR --upstream 127.0.0.1:9001 --upstream 127.0.0.1:9002 [--log FILE]

Prints "port N" and becomes the proxy, in the foreground, until SIGTERM. The port is the kernel's choice: the socket is
bound here and inherited. DIR holds the configuration and what the proxy itself says. With --log each request is a line:
the server that had it ("-": none), the status it gave, the request line.
"""

import argparse
import getpass
import os
import pathlib
import resource
import shutil
import socket
import sys

# Everything else is as the proxy's makers chose it.
NGINX = """
daemon off;
user {user};
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections {files}; }}
http {{
  log_format requests '$upstream_addr $upstream_status $request';
  access_log {log};
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 10m;
  keepalive_requests 1000000;
  upstream servers {{
{servers}
    keepalive {idle};
    keepalive_requests 1000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://servers;
      proxy_set_header Host $http_host;
      proxy_read_timeout 1h;
      proxy_next_upstream off;
{streams}
    }}
  }}
}}
"""

NGINX_STREAMS = """
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
"""

HAPROXY = """
global
  nbthread 1
  maxconn {connections}
{log}
defaults
  mode http
  option http-no-delay
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 75s
  retries 0
frontend door
  bind fd@{listener}
  maxconn {connections}
  backlog 4096
{log_format}
  default_backend servers
backend servers
  balance {balance}
  http-reuse always
{servers}
"""


def files_limit():
    """As many descriptors as this process may have, which the proxy inherits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(hard, 1_000_000)


def write_nginx(options, listener, files):
    """Its arguments and what its environment needs."""
    servers = "\n".join(f"    server {upstream};" for upstream in options.upstream)
    log = f"{options.log} requests" if options.log else "off"
    (options.folder / "nginx.conf").write_text(NGINX.format(
        user=getpass.getuser(), files=files, folder=options.folder, log=log, servers=servers,
        idle=options.idle, port=listener.getsockname()[1],
        streams="" if options.plain else NGINX_STREAMS.strip("\n")))
    # This is how a new nginx takes over the sockets of an old one.
    return (["-e", f"{options.folder}/error.log", "-p", f"{options.folder}",
             "-c", f"{options.folder}/nginx.conf"], {"NGINX": f"{listener.fileno()};"})


def write_haproxy(options, listener, files):
    servers = "\n".join(f"  server s{i} {upstream}" for i, upstream in enumerate(options.upstream))
    log = log_format = ""
    if options.log:
        file = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.set_inheritable(file, True)
        log = f"  log fd@{file} format raw local0"
        log_format = "  log global\n  log-format \"%s %ST %r\""
    # A stream takes two descriptors; some are left for listeners and pipes.
    (options.folder / "haproxy.cfg").write_text(HAPROXY.format(
        connections=(files - 200) // 2, log=log, listener=listener.fileno(), log_format=log_format,
        balance=options.balance, servers=servers))
    return ["-db", "-f", f"{options.folder}/haproxy.cfg"], {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("kind", choices=("nginx", "haproxy"))
    parser.add_argument("--upstream", action="append", required=True, help="HOST:PORT")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="must exist")
    parser.add_argument("--log", help="a line for each request; otherwise none are written")
    parser.add_argument("--idle", type=int, default=512,
                        help="nginx: connections to the servers that are kept while idle")
    parser.add_argument("--balance", choices=("roundrobin", "leastconn"), default="roundrobin",
                        help="HAProxy: which server is next")
    parser.add_argument("--plain", action="store_true",
                        help="nginx: as when its user never heard of streams (HTTP/1.0, buffered)")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    # The daemons live where the path of an ordinary user does not look.
    program = shutil.which(options.kind, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        sys.exit(f"run_proxy: {options.kind} is not installed; tools/install_packages.sh --test installs it")
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    listener.set_inheritable(True)
    write = write_nginx if options.kind == "nginx" else write_haproxy
    arguments, environment = write(options, listener, files_limit())
    print(f"port {listener.getsockname()[1]}", flush=True)
    os.execve(program, [program, *arguments], {**os.environ, **environment})


if __name__ == "__main__":
    main()
