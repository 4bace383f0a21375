"""How users sign in: the contract of a login step, and the steps that come with the package."""

from __future__ import annotations

from .app import AppLogin
from .dev import DevLogin
from .password import PasswordLogin
from .step import Login, LoginAttempt, LoginForm, LoginHost, LoginRedirect, LoginRefusal

__all__ = [
    "AppLogin",
    "DevLogin",
    "Login",
    "LoginAttempt",
    "LoginForm",
    "LoginHost",
    "LoginRedirect",
    "LoginRefusal",
    "PasswordLogin",
]
