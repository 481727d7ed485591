package paths_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"kaimon/agent/internal/config"
	"kaimon/agent/internal/paths"
)

// The tables say who touched a sensitive file by the same list and the same rules.
func TestTheDefaultPatternsFitWhatTheRollupsSayTheyDo(t *testing.T) {
	raw, err := os.ReadFile("../../../tests/vectors/sensitive.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Patterns []string
		Paths    []struct {
			Path    string
			Pattern *string
		}
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(vectors.Patterns, config.Sensitive) {
		t.Fatalf("the vectors are of %q, the agent's default is %q", vectors.Patterns, config.Sensitive)
	}
	if len(vectors.Paths) < len(config.Sensitive) {
		t.Fatalf("only %d paths", len(vectors.Paths))
	}
	whole := paths.NewPatterns(config.Sensitive)
	for _, one := range vectors.Paths {
		if got := whole.Match([]byte(one.Path)); got != (one.Pattern != nil) {
			t.Errorf("%q: %v", one.Path, got)
		}
		if one.Pattern != nil && !paths.NewPatterns([]string{*one.Pattern}).Match([]byte(one.Path)) {
			t.Errorf("%q does not fit %q", one.Path, *one.Pattern)
		}
	}
}
