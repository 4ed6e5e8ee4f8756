"""Who is who: server, login, tokens, users, organisations."""

from __future__ import annotations

import secrets

from . import render
from .answers import Answer, Refusal, as_json, detail, refuse
from .request import Request
from .world import AccessToken, Organization


def about(request: Request) -> Answer:
    return as_json(render.about(request.base))


def plugins(request: Request) -> Answer:
    return as_json({"ANALYTICS": False, "MODELS": False})


def login(request: Request) -> Answer:
    given = request.json()
    for user in request.world.users.values():
        if (user.username, user.password) == (given.get("username"), given.get("password")):
            token, session = request.world.log_in(user)
            return as_json(
                {"key": token},
                200,
                ("Set-Cookie", f"csrftoken={secrets.token_hex(16)}; Path=/; SameSite=Lax"),
                ("Set-Cookie", "sessionfresh=1; HttpOnly; Path=/; SameSite=Lax"),
                ("Set-Cookie", f"sessionid={session}; HttpOnly; Path=/; SameSite=Lax"),
            )
    raise refuse({"non_field_errors": ["Unable to log in with provided credentials."]})


def logout(request: Request) -> Answer:
    """Ends the user's one token, for every client of that user."""
    request.world.log_out(request.user)
    return detail("Successfully logged out.", 200)


def create_token(request: Request) -> Answer:
    given = request.json()
    world = request.world
    token = AccessToken(
        world.next_id("access_token"),
        given.get("name", ""),
        bool(given.get("read_only")),
        request.user,
        f"{secrets.token_hex(4)}.{secrets.token_urlsafe(24)}",
        world.now(),
    )
    world.access_tokens[token.value] = token
    return as_json({**render.access_token(token, request.base), "value": token.value}, 201)


def own_token(request: Request) -> Answer:
    token = request.world.access_tokens.get(request.credential)
    if token is None:
        raise Refusal(detail("Not found.", 404))
    return as_json(render.access_token(token, request.base))


def me(request: Request) -> Answer:
    return as_json(render.user(request.user, request.base))


def create_organization(request: Request) -> Answer:
    world = request.world
    found = Organization(world.next_id("organization"), request.json()["slug"], request.user, world.now())
    world.organizations[found.id] = found
    return as_json(render.organization(found, request.base), 201)
