"""The house's own commands (`python manage.py help`, section "commands")."""

from django.apps import AppConfig


class CommandsConfig(AppConfig):
    name = "webapp.commands"
    label = "commands"
