package client

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/posta-tasks/posta/wire"
)

// The members of a line, each left out when it is zero: then the server's default holds.

func (k *call) name(name string) {
	k.Line = append(append(append(k.Line, `,"`...), name...), `":`...)
}

func (k *call) text(name, value string) {
	if value != "" {
		k.name(name)
		k.Line = wire.AppendString(k.Line, value)
	}
}

func (k *call) number(name string, value int) {
	if value != 0 {
		k.name(name)
		k.Line = strconv.AppendInt(k.Line, int64(value), 10)
	}
}

func (k *call) seconds(name string, value time.Duration) {
	if value != 0 {
		k.name(name)
		k.Line = strconv.AppendFloat(k.Line, value.Seconds(), 'f', -1, 64)
	}
}

func (k *call) time(name string, at time.Time) {
	if !at.IsZero() {
		k.name(name)
		k.Line = append(k.Line, '"')
		k.Line = append(at.UTC().AppendFormat(k.Line, time.RFC3339Nano), '"')
	}
}

func (k *call) labels(name string, labels map[string]string) {
	if len(labels) == 0 {
		return
	}
	k.name(name)
	separator := byte('{')
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		k.Line = wire.AppendString(append(k.Line, separator), label)
		k.Line = wire.AppendString(append(k.Line, ':'), labels[label])
		separator = ','
	}
	k.Line = append(k.Line, '}')
}
