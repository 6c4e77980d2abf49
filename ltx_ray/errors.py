"""Errors, told to the person who can mend them.

Every message says what was wanted, what came (``got ...``), where, and what to do. The class says
who can help: the user (``UserError``), another try (``RetryableError``), or nobody (plain ``LtxRayError``).
"""


class LtxRayError(Exception):
    """Base of every error that ltx_ray raises on purpose.

    ``kind`` is the value of the output manifest's ``error_kind`` column; ``retryable`` says whether
    the same task can succeed when it is tried again.
    """

    kind: str = "internal"
    retryable: bool = False


class UserError(LtxRayError, ValueError):
    """The input is wrong and a retry cannot help: a bad row, a bad config, a missing file."""

    kind = "user"


class ManifestError(UserError):
    """The manifest as a whole cannot be read: missing, empty, of an unknown type, or broken."""

    kind = "manifest"


class ConfigError(UserError):
    """A config value, a flag or the output folder's own config does not fit."""

    kind = "config"


class ModelError(UserError):
    """A checkpoint cannot be used: a part is missing, unsafe, or does not fit the others."""

    kind = "model"


class ModelAbsentError(ModelError):
    """A checkpoint of the hub is not on this machine, and was not to be fetched."""


class PreflightError(UserError):
    """What a run would meet on its cluster would spoil it; nothing was begun."""

    kind = "preflight"


class MediaError(UserError):
    """An audio, image or video file is missing, broken or not what it claims to be."""

    kind = "media"


class StorageError(LtxRayError):
    """Reading or writing OUT failed (full disk, no permission, a store that answers with errors)."""

    kind = "storage"
    retryable = True


class LeaseLostError(StorageError):
    """Another driver writes to OUT now; this one must not."""

    kind = "lease_lost"
    retryable = False


class RunBusyError(UserError):
    """OUT belongs to another driver that lives."""

    kind = "busy"


class RetryableError(LtxRayError):
    """The task may succeed when it is tried again, on another actor."""

    kind = "retryable"
    retryable = True


class WorkerLostError(RetryableError):
    """The actor, or the node under it, went away while it worked."""

    kind = "worker_lost"


class TaskHungError(RetryableError):
    """A task made no end within its deadline; its actor was replaced."""

    kind = "timeout"


class RunHopelessError(LtxRayError):
    """So many shots failed that going on would waste the rest."""

    kind = "hopeless"


class BudgetSpentError(LtxRayError):
    """The run has used as much of the GPUs as it may."""

    kind = "budget"


class InputLostError(RetryableError):
    """Inputs of the task are gone: ``InputLostError(message, *names)`` with the names of their files."""

    kind = "input_lost"

    def __str__(self) -> str:
        return str(self.args[0])


class BadResultError(RetryableError):
    """The task ended with something that cannot be right, such as NaN latents."""

    kind = "bad_result"
