"""rabbitmq.conf as a configuration: RabbitMQ's file in, option values out.

Every key is set, passed over with a note, or refused with its file and line; none is ignored silently. The text is
read by `rabbitmq_conf_text`, what each key means stands in `rabbitmq_conf_keys` and `rabbitmq_conf_rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from amqp_broker.config.rabbitmq_conf_keys import find_key, nearest_key
from amqp_broker.config.rabbitmq_conf_rules import RULES
from amqp_broker.config.rabbitmq_conf_text import Setting, files_of, read_settings
from amqp_broker.config.rabbitmq_conf_translation import Translation


def read_rabbitmq_conf(path: Path, environ: Mapping[str, str]) -> Translation:
    """What a file or directory says. environ: what `$(NAME)` may stand for."""
    settings, problems = read_settings(files_of(path), environ)
    translation = Translation(settings)
    translation.problems.extend(problems)
    for setting in settings:
        _translate(translation, setting)
    for rule in RULES:
        rule(translation)
    return translation


def _translate(conf: Translation, setting: Setting) -> None:
    """Set, refuse or pass over one setting, unless it is for a rule."""
    key = find_key(setting.words)
    if key is None:
        conf.refuse_unknown(setting, nearest_key(setting.words))
    elif key.refused:
        conf.refuse(setting, key.reason)
    elif key.passed_over:
        conf.note(setting, f"no effect: {key.reason}")
    elif key.reader is not None:
        value = conf.read(setting, key.reader)
        if value is not None:
            conf.put(setting, key.option, value)
