package cli

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// labelsFlag is a flag for labels, NAME=VALUE, once for each.
type labelsFlag map[string]string

// String returns the labels in the order of their names.
func (l *labelsFlag) String() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(*l)) {
		list = append(list, name+"="+(*l)[name])
	}
	return strings.Join(list, " ")
}

// Type names the kind of value in the help.
func (l *labelsFlag) Type() string { return "label" }

// Set reads one label.
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
