package option

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// Labels is a flag for labels, NAME=VALUE, once for each.
type Labels map[string]string

// String gives the labels in the order of their names.
func (l *Labels) String() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(*l)) {
		list = append(list, name+"="+(*l)[name])
	}
	return strings.Join(list, " ")
}

// Type names the kind of value in the help.
func (l *Labels) Type() string { return "label" }

// Set reads one label.
func (l *Labels) Set(text string) error {
	name, value, found := strings.Cut(text, "=")
	if !found || name == "" {
		return errors.New("want NAME=VALUE, such as customer=ana")
	}
	if *l == nil {
		*l = Labels{}
	}
	(*l)[name] = value
	return nil
}
