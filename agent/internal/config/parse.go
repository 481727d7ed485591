package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A LineError is what is wrong with a file, and where.
type LineError struct {
	Path string
	Line int // 0 = of no one line
	Err  error
}

func (e *LineError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Path, e.Err)
	}
	return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Err)
}

func (e *LineError) Unwrap() error { return e.Err }

// kinds say what a value of each Go type has to look like.
var kinds = map[string]string{
	"string": "must be text", "int": "must be a whole number", "[]string": "must be a list of texts",
	"time.Duration": "must be a duration such as 2s or 5m",
}

// Parse puts what a file says over what c holds. Unknown and repeated keys, values of the wrong kind, keys without a
// value and values that cannot be used are errors; path is only what they call the file. After an error c is as it was.
func Parse(raw []byte, path string, c *Config) error {
	if len(significant(raw)) == 0 {
		return nil
	}
	var document yaml.Node
	if err := yaml.Load(raw, &document); err != nil {
		return place(err, path, nil)
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return &LineError{path, 0, errors.New("is not one YAML document")}
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode {
		return &LineError{path, root.Line, errors.New("must be keys and values")}
	}
	lines := make(map[string]int)
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if key.Kind != yaml.ScalarNode || !slices.Contains(Keys(), key.Value) {
			return &LineError{path, key.Line, fmt.Errorf("unknown key %s", quoted(key))}
		}
		if value.Kind == yaml.ScalarNode && value.ShortTag() == "!!null" {
			return &LineError{path, key.Line, &KeyError{key.Value, "has no value: give one, or leave the key out"}}
		}
		if value.Kind == yaml.SequenceNode && slices.ContainsFunc(value.Content, notText) {
			return &LineError{path, value.Line, &KeyError{key.Value, kinds["[]string"]}}
		}
		lines[key.Value] = key.Line
	}
	read := c.clone()
	if err := yaml.Load(raw, &read, yaml.WithKnownFields(), yaml.WithUniqueKeys()); err != nil {
		return place(err, path, root)
	}
	if err := read.checkValues(); err != nil {
		var of *KeyError
		if errors.As(err, &of) {
			return &LineError{path, lines[of.Key], err}
		}
		return &LineError{path, 0, err}
	}
	*c = read
	return nil
}

func notText(item *yaml.Node) bool { return item.Kind != yaml.ScalarNode || item.ShortTag() != "!!str" }

// significant is what is left of a file without comments, document marks and white space.
func significant(raw []byte) []byte {
	var rest []byte
	for line := range bytes.Lines(raw) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			rest = append(rest, line...)
		}
	}
	return rest
}

func quoted(key *yaml.Node) string {
	if key.Kind != yaml.ScalarNode {
		return "that is not text"
	}
	const most = 40
	value := []rune(key.Value)
	return fmt.Sprintf("%q", string(value[:min(len(value), most)]))
}

// place gives the library's first complaint the form of ours.
func place(err error, path string, root *yaml.Node) error {
	var one *yaml.LoadError
	var many *yaml.LoadErrors
	if errors.As(err, &many) && len(many.Errors) > 0 {
		one = many.Errors[0]
	} else if !errors.As(err, &one) {
		return &LineError{path, 0, errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))}
	}
	line := one.Mark.Line
	if root != nil {
		for i := 0; i+1 < len(root.Content); i += 2 {
			if key, value := root.Content[i], root.Content[i+1]; value.Line == line && value.Column == one.Mark.Column {
				return &LineError{path, line, &KeyError{key.Value, kinds[typeOf(key.Value)]}}
			}
		}
	}
	return &LineError{path, line, errors.New(strings.TrimPrefix(one.Message, "yaml: "))}
}

// Keys are the names of all settings, in their order.
func Keys() []string {
	var keys []string
	for _, field := range fields() {
		keys = append(keys, field.Tag.Get("yaml"))
	}
	return keys
}

func fields() []reflect.StructField { return reflect.VisibleFields(reflect.TypeFor[Config]()) }

func typeOf(key string) string {
	for _, field := range fields() {
		if field.Tag.Get("yaml") == key {
			return field.Type.String()
		}
	}
	return ""
}

func (c *Config) clone() Config {
	copied := *c
	for _, list := range []*[]string{
		&copied.Include, &copied.Exclude, &copied.OnlyProcesses, &copied.ExcludeProcesses, &copied.Sensitive,
	} {
		*list = slices.Clone(*list)
	}
	return copied
}

// Changed lists the keys in which two settings differ: those that a running agent takes, and those that it does not.
func Changed(before, after *Config) (hot, cold []string) {
	was, is := reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem()
	for _, field := range fields() {
		a, b := was.FieldByIndex(field.Index), is.FieldByIndex(field.Index)
		if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 ||
			reflect.DeepEqual(a.Interface(), b.Interface()) {
			continue
		}
		if key := field.Tag.Get("yaml"); field.Tag.Get("hot") != "" {
			hot = append(hot, key)
		} else {
			cold = append(cold, key)
		}
	}
	return hot, cold
}

// WithHotOf is c with the settings of newer that a running agent takes.
func (c *Config) WithHotOf(newer *Config) Config {
	mixed, from := c.clone(), newer.clone()
	to, source := reflect.ValueOf(&mixed).Elem(), reflect.ValueOf(&from).Elem()
	for _, field := range fields() {
		if field.Tag.Get("hot") != "" {
			to.FieldByIndex(field.Index).Set(source.FieldByIndex(field.Index))
		}
	}
	return mixed
}

// YAML is the settings as a file says them.
func (c *Config) YAML() []byte {
	raw, err := yaml.Dump(c)
	if err != nil {
		panic(err) // a struct of texts and numbers
	}
	return raw
}
