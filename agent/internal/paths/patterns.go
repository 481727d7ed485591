package paths

import (
	"bytes"
	"strings"
)

// Patterns tell sensitive files by their paths. A pattern is an absolute path, the last whole components of a path, or
// * and the ending of a name. bpf/include/filter.h knows the same.
type Patterns struct {
	whole, tails map[string]bool
	endings      [][]byte
	deepest      int // components of the longest tail
}

// NewPatterns takes patterns that the settings have checked.
func NewPatterns(patterns []string) *Patterns {
	p := &Patterns{whole: map[string]bool{}, tails: map[string]bool{}}
	for _, pattern := range patterns {
		if ending, ok := strings.CutPrefix(pattern, "*"); ok {
			p.endings = append(p.endings, []byte(ending))
		} else if strings.HasPrefix(pattern, "/") {
			p.whole[pattern] = true
		} else {
			p.tails[pattern] = true
			p.deepest = max(p.deepest, 1+strings.Count(pattern, "/"))
		}
	}
	return p
}

// Match says whether one of the patterns fits the path.
func (p *Patterns) Match(path []byte) bool {
	if p.whole[string(path)] {
		return true
	}
	name := path[bytes.LastIndexByte(path, '/')+1:]
	for _, ending := range p.endings {
		if bytes.HasSuffix(name, ending) {
			return true
		}
	}
	from := len(path)
	for range p.deepest {
		from = bytes.LastIndexByte(path[:from], '/')
		if from < 0 {
			return false
		}
		if p.tails[string(path[from+1:])] {
			return true
		}
	}
	return false
}
