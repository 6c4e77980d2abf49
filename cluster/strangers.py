"""What a stranger gets to see of a Ray: requests without a token, as anybody in its network can make them.

Who may speak to a Ray may run programs on all of its machines. That a door is closed is proved by knocking.
"""

import urllib.error
import urllib.request

import grpc  # type: ignore[import-untyped]

# Neither of them changes anything.
HEAD = "/ray.rpc.NodeInfoGcsService/GetClusterId"
NODE = "/ray.rpc.NodeManagerService/GetSystemConfig"
_JOBS = "/api/jobs/"  # the dashboard's list of jobs; who may read it may submit one
_SECONDS = 5.0


def is_open(address: str, method: str) -> bool | None:
    """Whether Ray's process at HOST:PORT answers ``method`` without a token; None: it is out of reach."""
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        call = channel.unary_unary(method, request_serializer=_as_is, response_deserializer=_as_is)
        try:
            call(b"", timeout=_SECONDS)
        except grpc.RpcError as error:
            code = error.code()
            if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                return False
            # An error of the service itself is an answer; these are of the way to it.
            return None if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) else True
    return True


def is_dashboard_open(address: str) -> bool | None:
    """Whether the dashboard at HOST:PORT tells its jobs without a token; None: it is out of reach."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}{_JOBS}", timeout=_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return False if error.code in (401, 403) else None
    except OSError:
        return None


def _as_is(message: bytes) -> bytes:
    return message
