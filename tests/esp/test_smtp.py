"""The smtp adapter against a real server: who was taken, refused, put off, and of whom nobody can tell."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable
from datetime import datetime
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult
from smtp_server import Handler, Server

from sendwave import esp
from sendwave.errors import BadInput, Permanent, Transient
from sendwave.esp.base import EspAdapter, Receipt, Submission
from sendwave.esp.smtp import SmtpSettings
from sendwave.rules.events import Cause, EventType, Permanence
from sendwave.rules.token import sign

Make = Callable[..., EspAdapter]
Batch = Callable[..., Submission]


def states(receipt: Receipt) -> tuple[list[int], list[int], list[int]]:
    return [r.index for r in receipt.refused], [d.index for d in receipt.deferred], list(receipt.unknown)


def test_each_recipient_gets_an_answer_of_their_own(smtp: Make, batch: Batch, server: Server) -> None:
    addresses = ["gone.1@o.example", "anne@o.example", "full.1@o.example", "busy.1@o.example", "policy.1@o.example",
                 "spam.1@o.example", "later.1@o.example", "bruno@o.example"]  # fmt: skip
    receipt = smtp().submit(batch(*addresses))
    assert states(receipt) == ([0, 2, 4, 5], [3, 6], [])
    assert server.recipients == ["anne@o.example", "bruno@o.example"]
    words = {addresses[r.index].partition(".")[0]: r.event for r in receipt.refused}
    assert {word: (e.type, e.permanence, e.cause, e.enhanced_code) for word, e in words.items()} == {
        "gone": (EventType.BOUNCE, Permanence.HARD, Cause.UNKNOWN_USER, "5.1.1"),
        "full": (EventType.BOUNCE, Permanence.SOFT, Cause.MAILBOX_FULL, "5.2.2"),
        "policy": (EventType.BOUNCE, Permanence.SOFT, Cause.BLOCKED_REPUTATION, "5.7.1"),
        "spam": (EventType.BOUNCE, Permanence.SOFT, Cause.CONTENT, "5.7.1"),
    }
    assert words["gone"].description.startswith("550 5.1.1 <gone.1@o.example>")
    assert server.handler.counts["connections"] == 1


def test_all_refused_and_the_connection_lives_on(smtp: Make, batch: Batch, server: Server) -> None:
    adapter = smtp()
    assert states(adapter.submit(batch("gone.1@o.example", "gone.2@o.example"))) == ([0, 1], [], [])
    assert states(adapter.submit(batch("anne@o.example", number=2))) == ([], [], [])
    assert server.handler.counts["connections"] == 1


def test_a_line_lost_before_the_data_puts_that_one_off(smtp: Make, batch: Batch, server: Server) -> None:
    receipt = smtp().submit(batch("anne@o.example", "hangup.1@o.example", "bruno@o.example"))
    assert states(receipt) == ([], [1], [])
    assert server.recipients == ["anne@o.example", "bruno@o.example"]


def test_a_line_lost_after_the_final_dot_is_unknown_and_stops_the_batch(
    smtp: Make, batch: Batch, server: Server
) -> None:
    receipt = smtp().submit(batch("anne@o.example", "silent.1@o.example", "bruno@o.example", "carl@o.example"))
    assert states(receipt) == ([], [2, 3], [1])
    assert server.recipients == ["anne@o.example", "silent.1@o.example"]
    assert "never handed over" in receipt.deferred[0].event.description


def test_the_last_of_a_batch_can_be_unknown_too(smtp: Make, batch: Batch) -> None:
    assert states(smtp().submit(batch("anne@o.example", "silent.1@o.example"))) == ([], [], [1])


def test_after_an_unknown_the_next_batch_gets_a_fresh_line(smtp: Make, batch: Batch, server: Server) -> None:
    adapter = smtp()
    adapter.submit(batch("silent.1@o.example"))
    assert states(adapter.submit(batch("bruno@o.example", number=2))) == ([], [], [])
    assert server.recipients == ["silent.1@o.example", "bruno@o.example"]


def test_no_reply_to_the_final_dot_in_time_is_unknown(smtp: Make, batch: Batch, server: Server) -> None:
    receipt = smtp(final_timeout="1s").submit(batch("mute.1@o.example", "bruno@o.example"))
    assert states(receipt) == ([], [1], [0])


def test_421_puts_off_and_goes_on_over_a_new_line(smtp: Make, batch: Batch, server: Server) -> None:
    receipt = smtp().submit(batch("anne@o.example", "shut.1@o.example", "bruno@o.example"))
    assert states(receipt) == ([], [1], [])
    assert receipt.deferred[0].event.cause is Cause.THROTTLED
    assert server.recipients == ["anne@o.example", "bruno@o.example"]


def test_a_server_that_only_hangs_up_is_left_in_peace(smtp: Make, batch: Batch, server: Server) -> None:
    receipt = smtp().submit(batch(*(f"hangup.{i}@o.example" for i in range(50))))
    assert states(receipt) == ([], list(range(50)), [])
    assert server.handler.counts["connections"] == 3


def test_a_server_that_closes_after_so_many_mails_costs_nobody_their_turn(
    smtp: Make, batch: Batch, server: Server
) -> None:
    server.handler.mails_per_connection = 4
    addresses = [f"p{i}@o.example" for i in range(10)]
    assert states(smtp().submit(batch(*addresses))) == ([], [], [])
    assert server.recipients == addresses


def test_we_close_after_so_many_mails_when_told_to(smtp: Make, batch: Batch, server: Server) -> None:
    addresses = [f"p{i}@o.example" for i in range(10)]
    assert states(smtp(mails_per_connection=3).submit(batch(*addresses))) == ([], [], [])
    assert server.recipients == addresses
    assert server.handler.counts["connections"] == 4


def test_a_kept_line_that_died_is_replaced(smtp: Make, batch: Batch, server: Server) -> None:
    adapter = smtp()
    adapter.submit(batch("anne@o.example"))
    kept = adapter._idle[0]  # type: ignore[attr-defined]
    kept._sock.shutdown(2)
    assert states(adapter.submit(batch("bruno@o.example", number=2))) == ([], [], [])
    assert server.recipients == ["anne@o.example", "bruno@o.example"]


def test_data_cut_off_in_the_middle_was_never_handed_over(tmp_path: Path, content: Path, batch: Batch) -> None:
    """The final dot is the last thing sent: if not everything left, it did not."""
    endless = {"first_name": ["Une ligne parmi tant d'autres.\n" * 300_000] * 2}  # far more than sockets hold

    def talk(line: socket.socket) -> None:
        for reply in (b"220 hello", b"250 hello", b"250 sender", b"250 recipient", b"354 go on"):
            line.sendall(reply + b"\r\n")
            line.recv(1000)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # hang up with a reset

    adapter = talking(talk, tmp_path)
    receipt = adapter.submit(batch("anne@o.example", "bruno@o.example", subject="S", fields=endless))
    assert states(receipt) == ([], [0, 1], [])


def talking(talk: Callable[[socket.socket], None], home: Path) -> EspAdapter:
    """An adapter whose relay has this conversation, once, and is gone."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        line = listening.accept()[0]
        listening.close()
        with line:
            talk(line)

    threading.Thread(target=answer, daemon=True).start()
    settings = {"esp": "smtp", "host": "127.0.0.1", "port": listening.getsockname()[1], "tls": "none"}
    return esp.make(settings, route="main", home=home, token_key=b"")


@pytest.mark.parametrize(
    ("greeting", "kind"), [(b"554 5.7.1 blocked\r\n", Permanent), (b"421 4.3.2 later\r\n", Transient)]
)
def test_a_server_that_greets_with_no(
    tmp_path: Path, content: Path, batch: Batch, greeting: bytes, kind: type[Exception]
) -> None:
    def talk(line: socket.socket) -> None:
        line.sendall(greeting)
        line.recv(100)

    with pytest.raises(kind, match="does not serve us"):
        talking(talk, tmp_path).submit(batch("anne@o.example"))


def test_a_refused_sender_is_permanent_and_hands_nobody_over(smtp: Make, batch: Batch, server: Server) -> None:
    server.handler.refuse_senders = "553 5.7.1 sender not allowed here"
    with pytest.raises(Permanent, match=r"refuses our sender: 553 5.7.1 sender not allowed"):
        smtp().submit(batch("anne@o.example", "bruno@o.example"))
    assert server.recipients == []


def test_a_sender_put_off_puts_everybody_off(smtp: Make, batch: Batch, server: Server) -> None:
    server.handler.refuse_senders = "451 4.7.1 come back later"
    assert states(smtp().submit(batch("anne@o.example", "bruno@o.example"))) == ([], [0, 1], [])


def test_threads_share_an_adapter(smtp: Make, batch: Batch, server: Server) -> None:
    adapter = smtp()
    found: list[Receipt] = []

    def send(number: int) -> None:
        found.extend(adapter.submit(batch(*(f"p{number}.{i}@o.example" for i in range(20)), number=number + 3 * k))
                     for k in range(3))  # fmt: skip

    threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [states(receipt) for receipt in found] == [([], [], [])] * 9
    assert len(server.recipients) == 180
    assert server.handler.counts["connections"] <= 3


def test_what_arrives_is_what_was_meant(smtp: Make, batch: Batch, server: Server, now: datetime) -> None:
    smtp().submit(batch("anne@o.example"))
    taken, token = server.handler.taken[0], sign(b"0123456789abcdef" * 2, 1, 0)
    assert taken.sender == f"b-{token}@bounces.example"
    assert taken.data.endswith(b"\r\n")
    mail = taken.mail
    assert str(make_header(decode_header(mail["Subject"]))) == "Bonjour Zoé"
    assert mail["To"] == "anne@o.example"
    assert mail["X-Sendwave-Token"] == token
    assert mail.get_payload(decode=True).decode() == (  # type: ignore[union-attr]
        f"Bonjour Zoé,\r\n.\r\nÀ bientôt\r\nhttps://maisonlune.example/u/{token}\r\n"
    )


@pytest.mark.parametrize("server", ["pipelined"], indirect=True)
class TestOncePerServer:
    """What does not depend on pipelining."""

    def test_international_addresses_travel_by_smtputf8(self, smtp: Make, batch: Batch, server: Server) -> None:
        assert states(smtp().submit(batch("zoé@o.example", "anne@forêt.example"))) == ([], [], [])
        assert server.recipients == ["zoé@o.example", "anne@xn--fort-ipa.example"]

    def test_an_address_that_is_none_is_refused_without_asking(self, smtp: Make, batch: Batch, server: Server) -> None:
        bad = ["anne", "anne@o.example>\r\nDATA", "a b@o.example", "", "anne@o.example,bruno@o.example"]
        receipt = smtp().submit(batch(*bad, "carl@o.example"))
        assert states(receipt) == ([0, 1, 2, 3, 4], [], [])
        assert receipt.refused[0].event.cause is Cause.UNKNOWN_USER
        assert server.recipients == ["carl@o.example"]
        assert server.handler.counts["rcpt"] == 1

    def test_a_person_without_a_required_field_is_not_written_to(
        self, smtp: Make, batch: Batch, server: Server, content: Path
    ) -> None:
        (content / "body.txt").write_text("Bonjour {{ first_name | required }}", encoding="utf-8")
        receipt = smtp().submit(batch("a@o.example", "b@o.example", fields={"first_name": [None, "Zoé"]}))
        assert states(receipt) == ([0], [], [])
        assert receipt.refused[0].event.type is EventType.FAIL
        assert "first_name" in receipt.refused[0].event.description
        assert server.recipients == ["b@o.example"]

    def test_templates_are_read_again_when_they_change(
        self, smtp: Make, batch: Batch, server: Server, content: Path
    ) -> None:
        adapter = smtp()
        for number, text in enumerate(("first", "the second"), 1):
            (content / "body.txt").write_text(text, encoding="utf-8")
            adapter.submit(batch("anne@o.example", number=number))
        assert [taken.mail.get_payload().strip() for taken in server.handler.taken] == ["first", "the second"]

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"content": None}, "needs `content`"),
            ({"content": "nowhere"}, "no such folder"),
            ({"sender": "Maison Lune"}, "is no address"),
            ({"subject": "{{ oops"}, "subject:1"),
        ],
    )
    def test_a_campaign_that_cannot_be_sent(self, smtp: Make, batch: Batch, changed: Any, message: str) -> None:
        with pytest.raises(Permanent, match=message):
            smtp().submit(batch("anne@o.example", **changed))

    def test_starttls_not_offered(self, smtp: Make, batch: Batch) -> None:
        with pytest.raises(Permanent, match="does not offer STARTTLS; set `tls: none` only"):
            smtp(tls="starttls").submit(batch("anne@o.example"))


@pytest.mark.parametrize(
    ("host", "given", "used"),
    [("127.0.0.1", None, "none"), ("localhost", None, "none"), ("::1", None, "none"),
     ("mail.example", None, "starttls"), ("127.0.0.1", "implicit", "implicit")],
)  # fmt: skip
def test_encryption_left_out(host: str, given: str | None, used: str) -> None:
    assert SmtpSettings(esp="smtp", host=host, tls=given).encryption == used


class TestSecrets:
    """Log-in and encryption."""

    def adapter(self, home: Path, server: Server, **settings: Any) -> EspAdapter:
        return esp.make({"esp": "smtp", **server.where, **settings}, route="main", home=home, token_key=b"")

    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        path = tmp_path / "server.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-keyout", path, "-out", tmp_path / "crt", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=DNS:localhost"],
            check=True, capture_output=True,
        )  # fmt: skip
        path.write_text(path.read_text() + (tmp_path / "crt").read_text())
        return path

    def test_starttls_and_log_in(self, tmp_path: Path, content: Path, batch: Batch, certificate: Path) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)

        def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
            return AuthResult(success=data.password == b"right", handled=False)

        server = Server(Handler(), tls_context=context, authenticator=check, auth_required=True)
        server.start()
        settings = {"tls": "starttls", "ca_file": "server.pem", "host": "localhost", "username": "maison"}
        try:
            adapter = self.adapter(tmp_path, server, **settings, password="right")
            assert states(adapter.submit(batch("anne@o.example"))) == ([], [], [])
            adapter.close()
            with pytest.raises(Permanent, match="refuses the log-in of 'maison'") as caught:
                self.adapter(tmp_path, server, **settings, password="wr0ng").submit(batch("anne@o.example"))
            assert "wr0ng" not in str(caught.value)
            with pytest.raises(Permanent, match="certificate we cannot trust"):
                self.adapter(tmp_path, server, tls="starttls", host="localhost").submit(batch("anne@o.example"))
        finally:
            server.stop()

    def test_a_password_never_travels_in_clear(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="must not travel in clear"):
            esp.make(
                {"esp": "smtp", "host": "mail.example", "tls": "none", "username": "a", "password": "secret"},
                route="main", home=tmp_path, token_key=b"",
            )  # fmt: skip
