package metrics

import (
	"time"

	"kaimon/agent/internal/account"
	"kaimon/agent/internal/ship"
)

// all are the metrics, in the order in which they are told. agent/README.md documents each; a test holds it to that.
var all = []metric{
	{"kaimon_agent_healthy", "gauge", "1 if it delivers, is accepted, its accounts add up, its hooks fire and its settings are good", one(func(s *State, now time.Time) float64 { return truth(len(s.Unwell(now)) == 0) })},
	{"kaimon_agent_info", "gauge", "1; its version", func(s *State, _ time.Time) []sample { return []sample{{"version", s.Version, 1}} }},
	{"kaimon_agent_mode", "gauge", "1; where it captures", func(s *State, _ time.Time) []sample { return []sample{{"mode", s.Mode, 1}} }},
	{"kaimon_agent_blind_spot", "gauge", "1 for each thing that it cannot see here", func(s *State, _ time.Time) (all []sample) {
		for _, word := range s.BlindSpots {
			all = append(all, sample{"word", word, 1})
		}
		return all
	}},
	{"kaimon_agent_seen_events_total", "counter", "occurrences that hooks met", sum(func(c account.CPU) uint64 { return c.Seen })},
	{"kaimon_agent_filtered_events_total", "counter", "occurrences left out by filters", sum(func(c account.CPU) uint64 { return c.Filtered })},
	{"kaimon_agent_pending_events", "gauge", "occurrences in open collapse windows", sum(func(c account.CPU) uint64 { return c.Pending })},
	{"kaimon_agent_rows_total", "counter", "rows that the kernel's side numbered", sum(func(c account.CPU) uint64 { return c.NextSeq })},
	{"kaimon_agent_lost_rows_total", "counter", "rows lost, by cause", lost(func(t account.Tally) uint64 { return t.Rows }, func(s *ship.Sent) uint64 { return s.Refused })},
	{"kaimon_agent_lost_events_total", "counter", "occurrences lost, by cause", lost(func(t account.Tally) uint64 { return t.Events }, func(s *ship.Sent) uint64 { return s.RefusedEvents })},
	{"kaimon_agent_skipped_runs_total", "counter", "runs of a program that the kernel skipped; they are in no other counter", one(func(s *State, _ time.Time) float64 { return float64(s.SkippedRuns) })},
	{"kaimon_agent_canary_failures_total", "counter", "times that a hook did not fire on a CPU although it should have", one(func(s *State, _ time.Time) float64 { return float64(s.CanaryFailures) })},
	{"kaimon_agent_accounting_violations_total", "counter", "batches whose accounts did not add up", one(func(s *State, _ time.Time) float64 { return float64(s.Sent.Violations) })},
	{"kaimon_agent_buffer_bytes", "gauge", "bytes of rows held in memory", one(func(s *State, _ time.Time) float64 { return float64(s.Held) })},
	{"kaimon_agent_buffer_limit_bytes", "gauge", "bytes of rows held at most before some are let go", one(func(s *State, _ time.Time) float64 { return float64(s.Limit) })},
	{"kaimon_agent_buffer_rows", "gauge", "rows that wait, beside those of the batch at hand", one(func(s *State, _ time.Time) float64 { return float64(s.Waiting.Rows) })},
	{"kaimon_agent_batches_total", "counter", "batches accepted", one(func(s *State, _ time.Time) float64 { return float64(s.Sent.Batches) })},
	{"kaimon_agent_delivered_rows_total", "counter", "rows in accepted batches", one(func(s *State, _ time.Time) float64 { return float64(s.Sent.Rows) })},
	{"kaimon_agent_sent_bytes_total", "counter", "compressed bytes of accepted batches", one(func(s *State, _ time.Time) float64 { return float64(s.Sent.Bytes) })},
	{"kaimon_agent_rejected_lines_total", "counter", "lines of accepted batches that ingest quarantined", one(func(s *State, _ time.Time) float64 { return float64(s.Sent.Rejected) })},
	{"kaimon_agent_retries_total", "counter", "attempts to send that left a batch's fate open", one(func(s *State, _ time.Time) float64 { return float64(s.Sent.Retries) })},
	{"kaimon_agent_answers_total", "counter", "attempts to send, by the status that came back", answers},
	{"kaimon_agent_accepted", "gauge", "0 while ingest answers 401 (credential unknown or revoked) or 403 (subscription lapsed): it then asks every auth_retry", one(func(s *State, _ time.Time) float64 { return truth(s.Sent.Unwelcome == 0) })},
	{"kaimon_agent_last_success_age_seconds", "gauge", "time since a batch was accepted, or since the start", one(func(s *State, now time.Time) float64 { return now.Sub(s.Sent.Success).Seconds() })},
	{"kaimon_agent_lag_seconds", "gauge", "age of the moment up to which everything is delivered or counted as lost; up to the heartbeat when nothing happens", one(func(s *State, now time.Time) float64 { return now.Sub(s.Sent.Covered).Seconds() })},
	{"kaimon_agent_config_reloads_total", "counter", "changed settings, by what became of them", func(s *State, _ time.Time) []sample {
		return []sample{{"outcome", "taken", float64(s.ConfigsTaken)}, {"outcome", "refused", float64(s.ConfigsRefused)}}
	}},
	{"kaimon_agent_config_good", "gauge", "0 while the settings file is one that was refused", one(func(s *State, _ time.Time) float64 { return truth(!s.ConfigBad) })},
	{"kaimon_agent_hardened", "gauge", "1 if rights, calls and writes are as narrow as they should be", one(func(s *State, _ time.Time) float64 { return truth(s.Hardened) })},
	{"kaimon_agent_memory_locked", "gauge", "1 if its memory is never swapped", one(func(s *State, _ time.Time) float64 { return truth(s.MemoryLocked) })},
	{"kaimon_agent_resident_bytes", "gauge", "memory that the process holds", one(resident)},
	{"kaimon_agent_cpu_seconds_total", "counter", "processor time of the process", one(cpuSeconds)},
	{"kaimon_agent_goroutines", "gauge", "goroutines", one(goroutines)},
	{"kaimon_agent_uptime_seconds", "gauge", "time since it started", one(func(s *State, now time.Time) float64 { return now.Sub(s.Started).Seconds() })},
}
