package config

import (
	"flag"
	"fmt"
	"reflect"
	"time"
)

// Source is where the settings come from: a file, if there is one, and the flags that were given, which win.
type Source struct {
	Path  string // "" = no file
	given Config
	flags []reflect.StructField // of those given
	read  stamp                 // of the file, just before it was last read
}

// Flags adds a flag for each setting, and --config. Parse them before Load.
func (s *Source) Flags(set *flag.FlagSet) {
	defaults := Default()
	set.StringVar(&s.Path, "config", "", "`FILE` of settings in YAML; flags win over it")
	for _, field := range fields() {
		set.Var(&value{s, field, reflect.ValueOf(&defaults).Elem().FieldByIndex(field.Index)},
			field.Tag.Get("flag"), backquoted(field.Tag.Get("usage")))
	}
}

// Load reads the settings anew.
func (s *Source) Load() (Config, error) {
	c := Default()
	if s.Path != "" {
		s.read = stampOf(s.Path)
		raw, err := ReadTrusted(s.Path)
		if err != nil {
			return c, err
		}
		if err := Parse(raw, s.Path, &c); err != nil {
			return c, err
		}
	}
	given := s.given.clone()
	for _, field := range s.flags {
		reflect.ValueOf(&c).Elem().FieldByIndex(field.Index).Set(reflect.ValueOf(&given).Elem().FieldByIndex(field.Index))
	}
	return c, c.Check()
}

// value is one setting as a flag.
type value struct {
	source   *Source
	field    reflect.StructField
	standard reflect.Value
}

func (v *value) String() string {
	if v == nil || !v.standard.IsValid() || v.standard.IsZero() || v.standard.Kind() == reflect.Slice {
		return ""
	}
	return fmt.Sprint(v.standard.Interface())
}

// Set takes the text of a flag; lists take one item each time.
func (v *value) Set(text string) error {
	to := reflect.ValueOf(&v.source.given).Elem().FieldByIndex(v.field.Index)
	switch at := to.Addr().Interface().(type) {
	case *string:
		*at = text
	case *[]string:
		*at = append(*at, text)
	case *int:
		if _, err := fmt.Sscanf(text+"\n", "%d\n", at); err != nil {
			return fmt.Errorf("%s", kinds["int"])
		}
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%s", kinds["time.Duration"])
		}
		*at = d
	default:
		return fmt.Errorf("a setting of type %s has no flag", to.Type())
	}
	v.source.flags = append(v.source.flags, v.field)
	return nil
}

// backquoted marks the first word in capitals, which stands for the value, as package flag wants it.
func backquoted(usage string) string {
	start := -1
	for i := 0; i <= len(usage); i++ {
		upper := i < len(usage) && usage[i] >= 'A' && usage[i] <= 'Z'
		switch {
		case upper && start < 0:
			start = i
		case !upper && start >= 0 && i-start >= 3 && usage[start:i] != "PEM":
			return usage[:start] + "`" + usage[start:i] + "`" + usage[i:]
		case !upper:
			start = -1
		}
	}
	return usage
}
