"""Talk to the hub: who are we there, what lies in a repository, and put a run into it."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi, ModelInfo
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from rasengan_xl.errors import HubError
from rasengan_xl.sharing.package import Package
from rasengan_xl.sources.names import one_line

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"
_REMEDIES = {
    401: f"does not accept the token; {LOG_IN}",
    403: f"does not let this token write there; {LOG_IN}, or choose another --to",
    404: "knows no such place; check the owner's name, and that the token may see it",
    409: "has it already, or is at work on it; look there, and try again",
    412: "has got something new there in the meantime; look at it, and try again",
    429: "wants fewer requests; try again later",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A repository of models on the hub, as it is before anything is uploaded."""

    repo_id: str
    user: str
    """As whom the token speaks."""
    url: str
    exists: bool
    private: bool
    """As it is, or as it is to be made."""
    files: frozenset[str]
    """What lies there."""
    commit: str | None
    """The last one; absent if there is none."""


def check_repo_id(repo_id: str) -> None:
    """Refuse what cannot be a repository's name.

    Raises:
        HubError: It is not of the form `owner/name`.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError(f"--to {repo_id!r}: {one_line(error)}") from error
    if repo_id.count("/") != 1:
        raise HubError(f"--to {repo_id!r}: is no repository of the hub; write OWNER/NAME")


def has_token() -> bool:
    """Tell whether the user has a token of the hub, by login or by HF_TOKEN."""
    return huggingface_hub.get_token() is not None


def look_at(repo_id: str, *, private: bool) -> Destination:
    """Find out as whom we would upload, and what is there already; change nothing.

    Args:
        repo_id: `owner/name`.
        private: Whether it is to be seen by its owner only.

    Raises:
        HubError: There is no token, the hub refuses, or a repository that is public already is
            asked to be private.
    """
    check_repo_id(repo_id)
    if not has_token():
        raise HubError(f"the hub knows nobody without a token; {LOG_IN}")
    api = HfApi()
    with _telling_in_one_line(repo_id):
        user = cast("str", api.whoami()["name"])
        found = _find_repository(api, repo_id)
    if found and private and not found.private:
        raise HubError(
            f"{repo_id}: is there already and public; make it private in its settings, leave "
            "--private out, or choose another --to"
        )
    return Destination(
        repo_id=repo_id,
        user=user,
        url=f"{api.endpoint}/{repo_id}",
        exists=found is not None,
        private=bool(found.private) if found else private,
        files=frozenset(file.rfilename for file in (found and found.siblings) or []),
        commit=found.sha if found else None,
    )


def _find_repository(api: HfApi, repo_id: str) -> ModelInfo | None:
    try:
        return api.model_info(repo_id)
    except RepositoryNotFoundError:
        return None


def upload(package: Package, destination: Destination) -> bool:
    """Make the repository if need be, and put everything into it with one commit.

    To be called once the user has agreed.

    Returns:
        Whether anything there is new.

    Raises:
        HubError: The hub refuses, cannot be reached, or has changed since it was looked at.
    """
    api, repo_id = HfApi(), destination.repo_id
    additions = [
        CommitOperationAdd(path_in_repo=each.name, path_or_fileobj=each.content)
        for each in package.uploads
    ]
    with _telling_in_one_line(repo_id):
        _check_card(package)
        if not destination.exists:
            api.create_repo(repo_id, private=destination.private)
    left = "" if destination.exists else "; the repository is made, and empty"
    with _telling_in_one_line(repo_id, left):
        done = api.create_commit(
            repo_id,
            additions,
            commit_message="Upload an adapter trained with Rasengan-XL",
            parent_commit=destination.commit,
        )
    return done.oid != destination.commit


def _check_card(package: Package) -> None:
    """Have the hub check the card's metadata, before anything is made."""
    card = next(each.content for each in package.uploads if each.name == "README.md")
    text = card if isinstance(card, bytes) else card.read_bytes()
    try:
        huggingface_hub.ModelCard(text.decode()).validate()
    except ValueError as error:
        raise HubError(
            f"README.md: the hub refuses its metadata ({_list_faults(error)}); choose a --license "
            "of huggingface.co/docs/hub/repositories-licenses, or mend the card"
        ) from error


def _list_faults(error: ValueError) -> str:
    """Take what the hub finds fault with out of its answer."""
    try:
        faults = [fault["message"] for fault in json.loads(str(error))["errors"]]
    except (ValueError, LookupError, TypeError):
        return one_line(error)
    return one_line(ValueError("; ".join(faults)))


@contextmanager
def _telling_in_one_line(repo_id: str, left: str = "") -> Generator[None]:
    """Turn whatever the hub or the way there answers into one line with a remedy."""
    try:
        yield
    except HubError:
        raise
    # The hub's client has changed its transport twice; the faults share no other base.
    except Exception as error:
        raise HubError(f"{repo_id}: {_describe(error)}{left}") from error


def _describe(error: BaseException) -> str:
    """Say what went wrong, and what to do; the hub's answer may lie beneath other errors."""
    while error.__cause__ and not isinstance(error, HfHubHTTPError | OfflineModeIsEnabled):
        error = error.__cause__
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE keeps the hub out of reach; unset it"
    if isinstance(error, HfHubHTTPError):
        return _describe_answer(error)
    reason = one_line(error)
    return f"the hub cannot be reached, or broke off ({reason}); check the network, and try again"


def _describe_answer(error: HfHubHTTPError) -> str:
    status: int = error.response.status_code
    if status >= 500:
        return f"the hub is out of order ({status}); try again later"
    if status in _REMEDIES:
        return f"the hub {_REMEDIES[status]} ({status})"
    said = error.server_message or one_line(error)
    return f"the hub refuses ({status}: {one_line(ValueError(said))}); look there, and try again"
