"""A real Postfix on loopback, of one test's own: its own configuration, queue and ports, stopped at the end.

Mail goes in by SMTP, out to `internet` (a server the test scripts), and bounces come back by LMTP to `bounces`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ports import free_port

MASTER = shutil.which("postfix", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

_MAIN = """
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/mail.log
maillog_file_prefixes = {root}
command_directory = /usr/sbin
daemon_directory = {daemons}
meta_directory = /etc/postfix
mail_owner = postfix
setgid_group = postdrop
myhostname = relay.example
mydomain = relay.example
myorigin = relay.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:{internet}
transport_maps = inline:{{ {{ bounces.example = lmtp:inet:127.0.0.1:{bounces} }} }}
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtp_tls_security_level = none
smtpd_tls_security_level = none
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
default_destination_concurrency_limit = 40
smtp_destination_concurrency_failed_cohort_limit = 0
default_destination_recipient_limit = 50
alias_maps =
local_recipient_maps =
biff = no
notify_classes =
delay_warning_time = 0
minimal_backoff_time = 300s
maximal_queue_lifetime = 1h
bounce_queue_lifetime = 1h
in_flow_delay = 0
smtpd_peername_lookup = no
"""

_MASTER = """
127.0.0.1:{port} inet n - n - 40 smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - 40 smtp
relay unix - - n - 40 smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - 10 lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
"""


@dataclass(frozen=True, slots=True)
class Postfix:
    """Where it listens, and its log."""

    port: int
    log: Path


def available() -> bool:
    """Postfix starts as root only; without either, the tests that need it say so and are skipped."""
    return MASTER is not None and os.geteuid() == 0


@contextmanager
def running(root: Path, *, internet: int, bounces: int) -> Iterator[Postfix]:
    """Start it with its queue under `root`; the two other servers must listen already."""
    assert MASTER is not None
    port = free_port()
    config = root / "config"
    config.mkdir(parents=True)
    root.chmod(0o755)
    config.chmod(0o755)
    daemons = next(p for p in ("/usr/lib/postfix/sbin", "/usr/libexec/postfix", "/usr/lib/postfix") if Path(p).is_dir())
    (config / "main.cf").write_text(_MAIN.format(root=root, daemons=daemons, internet=internet, bounces=bounces))
    (config / "master.cf").write_text(_MASTER.format(port=port))
    (root / "data").mkdir()
    shutil.chown(root / "data", "postfix")
    (root / "queue").mkdir()
    _postfix(config, "check")
    _postfix(config, "start")
    try:
        _await(port)
        yield Postfix(port, root / "mail.log")
    finally:
        _postfix(config, "stop")


def _postfix(config: Path, command: str) -> None:
    done = subprocess.run(
        [str(MASTER), "-c", str(config), command], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        log = config.parent / "mail.log"
        raise RuntimeError(f"postfix {command}: {done.stderr}{log.read_text() if log.exists() else ''}")


def _await(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("postfix did not start to listen within 10 s")
