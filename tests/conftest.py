"""Fixtures that several test files share."""

import os
import signal
import uuid
from collections.abc import Iterator

# Threads of one operation wait for each other by spinning: beside other processes that is many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# In the background of a shell it is ignored, also by the commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import fsspec
import pytest
from fragile_store import FragileFileSystem
from hypothesis import HealthCheck, settings
from s3 import s3_server

# How long an example takes says what else the machine does: speed has its own place, in benchmarks/.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Files that start clusters are handed out first: what is left when the others have nothing more is short.
_LONG = ("test_chaos_", "test_jobs_submit", "test_metrics_dashboard", "test_render_", "test_training_request")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order in which files are handed out."""
    items.sort(key=lambda item: not item.path.name.startswith(_LONG))


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 server, to which fsspec's s3:// URLs lead as long as it runs."""
    with s3_server() as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_PROFILE", raising=False)
        yield endpoint
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture
def s3_out(s3_endpoint: str) -> str:
    """An empty folder in a bucket of its own."""
    bucket = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(bucket)
    return f"s3://{bucket}/farm/out"


@pytest.fixture
def _empty_store() -> Iterator[None]:
    """The store in memory that dies when it is told to, empty again afterwards."""
    yield
    FragileFileSystem.empty()
