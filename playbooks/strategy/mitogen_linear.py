"""Ansible's linear strategy over Mitogen: one Python stays up on a machine, where Ansible starts one a task.

An emulated machine takes ten seconds to start one. ansible.cfg names this file's directory, for all who run
the playbooks: Vagrant, `testbed fleet up`, ansible-playbook.
"""

from ansible_mitogen.loaders import strategy_loader
from ansible_mitogen.strategy import StrategyMixin

Linear = strategy_loader.get("linear", class_only=True)


class StrategyModule(StrategyMixin, Linear):
    """What Ansible looks for in a strategy's file."""
