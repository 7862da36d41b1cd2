package cli

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// labelsFlag is a flag for labels. Each use adds one, NAME=VALUE.
type labelsFlag map[string]string

// String returns the labels sorted by name.
func (l *labelsFlag) String() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(*l)) {
		list = append(list, name+"="+(*l)[name])
	}
	return strings.Join(list, " ")
}

// Type returns the kind of value for the help.
func (l *labelsFlag) Type() string { return "label" }

// Set adds a label.
func (l *labelsFlag) Set(text string) error {
	name, value, found := strings.Cut(text, "=")
	if !found || name == "" {
		return errors.New("want NAME=VALUE, such as customer=ana")
	}
	if *l == nil {
		*l = labelsFlag{}
	}
	(*l)[name] = value
	return nil
}
