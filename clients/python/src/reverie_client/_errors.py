"""Why a call failed, as the mesh says it."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True)
class FieldViolation:
    """A field of the request that is wrong, and how."""

    field: str
    description: str


class ReverieError(Exception):
    """A call that failed.

    ``code`` says what kind of failure it is; the contracts say which there are. ``fields`` are those of the request that are wrong
    (``INVALID_ARGUMENT``), and ``retry_after`` the seconds after which the same call may succeed, if that is so.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str = "",
        fields: tuple[FieldViolation, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message, reason, fields, retry_after)
        self.code = code
        self.message = message
        self.reason = reason
        self.fields = fields
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    @classmethod
    def of(cls, error: grpc.RpcError) -> ReverieError:
        """Return the error that a call of gRPC ended with."""
        if not isinstance(error, grpc.Call):
            return cls(grpc.StatusCode.UNKNOWN, str(error))
        reason, retry_after = "", None
        fields: list[FieldViolation] = []
        for key, value in error.trailing_metadata() or ():
            if key != _DETAILS or not isinstance(value, bytes):
                continue
            for detail in status_pb2.Status.FromString(value).details:
                info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
                retry = error_details_pb2.RetryInfo()
                if detail.Unpack(info):
                    reason = info.reason
                elif detail.Unpack(request):
                    fields += [FieldViolation(it.field, it.description) for it in request.field_violations]
                elif detail.Unpack(retry):
                    retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        return cls(error.code(), error.details() or "", reason, tuple(fields), retry_after)
