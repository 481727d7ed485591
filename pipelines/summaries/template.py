"""The template writer: complete, always available, and held to the same guard as any other."""

from __future__ import annotations

from pipelines.summaries.document import Facts
from pipelines.summaries.draft import Draft, Making, Section, SectionKey, Written
from pipelines.summaries.guard import guard


class TemplateWriter:
    """Chooses sentences by the facts' values; writes none of them itself."""

    def __init__(self, reason: str = "no_model") -> None:
        """Take why no model writes: a `pipelines.summaries.draft.Making.verdict`."""
        self.reason = reason

    def word(self, facts: Facts) -> Written:
        """Return a guarded draft about these facts."""
        draft = self.write(facts)
        guard(draft, facts)
        return Written(draft, Making(self.reason))

    def write(self, facts: Facts) -> Draft:
        """Return a draft about these facts."""
        words = _Words(facts)
        sections: list[tuple[SectionKey, list[str]]] = [
            ("decisions", words.decisions()),
            ("activity", words.activity()),
            ("actors", words.actors()),
            ("coverage", words.coverage()),
        ]
        kept = [Section(key, sentences) for key, sentences in sections if sentences]
        return Draft(writer="template", headline=words.headline(), sections=kept)


class _Words:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def value(self, name: str) -> float:
        return self.facts.values[name].value or 0

    def some(self, name: str, single: str, several: str | None = None) -> str:
        """Return a placeholder and its noun: `{{hosts.silent}} hosts`."""
        noun = single if self.value(name) == 1 else several or f"{single}s"
        return f"{{{{{name}}}}} {noun}"

    def headline(self) -> str:
        so_far = "So far today, " if self.facts.provisional else ""
        if self.value("findings.urgent"):
            verb = "is" if self.value("findings.urgent") == 1 else "are"
            so_far = f"{self.some('findings.urgent', 'critical or high finding')} {verb} open. {so_far}"
        total = self.some("events.total", "file event")
        events = f"{so_far}{{{{hosts.reporting}}}} of {self.some('hosts.expected', 'monitored host')} reported {total}"
        if self.value("accounting.unaccounted"):
            return f"{events}, and {self.some('accounting.unaccounted', 'event')} cannot be accounted for."
        if self.value("hours.unknown"):
            return f"{events}; for {self.some('hours.unknown', 'host-hour')} nobody can tell what happened."
        if self.value("accounting.lost"):
            return f"{events}; {self.some('accounting.lost', 'more is', 'more are')} known to be lost."
        return f"{events}, and every event is accounted for."

    def activity(self) -> list[str]:
        if not self.value("events.total"):
            return ["No file was touched as far as the agents saw: {{events.total}} events in all."]
        paths = self.some("paths.distinct", "different path")
        said = [f"The hosts reported {self.some('events.total', 'file event')} on {paths}."]
        if self.facts.values["events.change"].value is not None:
            said.append(f"That is {{{{events.change}}}} against the {self.facts.period} before.")
        if self.facts.values["events.against_median"].value is not None:
            said.append("Against the median of the last four weeks it is {{events.against_median}}.")
        deeds = (
            ("create", "created"),
            ("write", "written"),
            ("rename", "renamed"),
            ("delete", "deleted"),
            ("open", "opened"),
            ("link", "linked"),
            ("symlink", "linked symbolically"),
            ("truncate", "cut short"),
            ("mmap_write", "mapped for writing"),
        )
        done = [f"{verb} {self.some(f'events.{name}', 'time')}" for name, verb in deeds if self.value(f"events.{name}")]
        if done:
            said.append(f"Files and folders were {_and(done)}.")
        rights = [
            f"{words} {self.some(f'events.{name}', 'time')}"
            for name, words in (("chmod", "permissions changed"), ("chown", "ownership changed"))
            if self.value(f"events.{name}")
        ]
        if rights:
            said.append(f"{_and(rights).capitalize()}.")
        if self.value("events.denied"):
            denied = self.some("events.denied", "attempt")
            said.append(f"The kernel refused {denied} for lack of permission.")
        said += self.changes()
        return said

    def changes(self) -> list[str]:
        """What the rules and the comparison with the weeks before say, beyond what is told above."""
        said = []
        if self.value("sensitive.events"):
            new = self.some("behaviour.new", "was by a program that is", "were by programs that are")
            news = f"; {new} new to that file" if self.value("behaviour.new") else ""
            said.append(f"Credentials and keys were touched {self.some('sensitive.events', 'time')}{news}.")
        if self.value("findings.closed"):
            closed = self.some("findings.closed", "finding was", "findings were")
            said.append(f"{closed} closed.")
        if self.value("findings.suppressed"):
            said.append(f"{self.some('findings.suppressed', 'finding is', 'findings are')} held back as agreed.")
        return said + self.acts()

    def acts(self) -> list[str]:
        """What was done in kaimon itself, as the audit chain has it."""
        if not self.value("acts.total"):
            return []
        kinds = (
            ("access", "change of people, roles, tokens or keys", "changes of people, roles, tokens or keys"),
            ("signins", "login to the portal", "logins to the portal"),
            ("hosts", "on hosts", "on hosts"),
            ("retention", "of retention", "of retention"),
        )
        among = [self.some(f"acts.{name}", one, more) for name, one, more in kinds if self.value(f"acts.{name}")]
        recorded = f"On kaimon's own audit chain {self.some('acts.total', 'act is', 'acts are')} recorded"
        said = [f"{recorded}, among them {_and(among)}." if among else f"{recorded}."]
        if self.value("acts.deletion"):
            done = self.some("acts.deletion", "act", "acts")
            said.append(f"{done} changed what is kept, or deleted what was to go.")
        if self.value("acts.alarms"):
            said.append(f"{self.some('acts.alarms', 'alarm was', 'alarms were')} raised by kaimon itself.")
        return said

    def actors(self) -> list[str]:
        said = []
        for kind, aliases in (("program", self.facts.processes), ("user", self.facts.users)):
            if not aliases:
                continue
            first, others = aliases[0], aliases[1:3]
            events = self.some(f"{first}.events", "event")
            hosts = self.some(f"{first}.hosts", "host")
            after = f", followed by {_and([f'{{{{entity.{alias}}}}}' for alias in others])}" if others else ""
            said.append(f"The busiest {kind} was {{{{entity.{first}}}}} with {events} on {hosts}{after}.")
        return said

    def coverage(self) -> list[str]:
        said = []
        if "days.missing" in self.facts.values and self.value("days.missing"):
            days = self.some("days.missing", "day of the week is", "days of the week are")
            said.append(f"{days} not in these numbers.")
        if self.facts.values["coverage.share"].value is not None:
            # A share of what is known must not pass for one of all that happened.
            saw = "told of" if self.value("hours.unknown") else "saw"
            said.append(
                f"Of the events that the hosts {saw} and were to keep, {{{{coverage.share}}}} are in the tables."
            )
        if self.value("accounting.unaccounted"):
            said.append(
                f"{self.some('accounting.unaccounted', 'event')} that a host counted never came, and nobody owns up to "
                "the loss: this must not happen."
            )
        if self.value("accounting.lost"):
            said.append(
                f"{self.some('accounting.lost', 'event is', 'events are')} known to be lost on the hosts, counted by "
                "cause."
            )
        if self.value("hours.partial"):
            said.append(f"{self.some('hours.partial', 'host-hour is', 'host-hours are')} therefore partial.")
        if self.value("hours.unknown"):
            silent = self.some("hosts.silent", "host")
            said.append(
                f"{{{{hours.unknown}}}} of {self.some('hours.monitored', 'host-hour')} are unknown, and what happened "
                f"in them is in no number here: {silent} fell silent without a goodbye."
            )
        if self.value("hosts.cloned"):
            said.append(
                f"Two machines reported under one identity at the same time, for {self.some('hosts.cloned', 'host')}: "
                "every event is here, but which of the machines it came from is not known."
            )
        if self.value("quarantine.lines"):
            lines = self.some("quarantine.lines", "line")
            said.append(f"{lines} arrived in a state that the tables do not take; they are kept, with the reason.")
        if self.value("blind_spots.count"):
            kinds = self.some("blind_spots.count", "kind")
            said.append(f"By its nature this way of capturing cannot see {kinds} of activity, listed below.")
        return said or ["No host was monitored in this period."]

    def decisions(self) -> list[str]:
        if self.facts.decisions:
            return list(dict.fromkeys(self.facts.decisions))
        if self.facts.provisional:
            return ["Nothing so far; the day is still running."]
        return ["Nothing in these numbers asks for a decision."]


def _and(words: list[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
