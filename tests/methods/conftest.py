"""Small random encoders for every test here."""

from small_encoders import *  # noqa: F403
