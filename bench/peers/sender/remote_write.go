// SPDX-License-Identifier: Apache-2.0
package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/golang/snappy"
	"google.golang.org/protobuf/encoding/protowire"
)

// Prometheus' remote_write 1.0: a snappy block of a WriteRequest. Names have underscores for dots; the agent is a label.
type remoteWrite struct {
	labels [][]byte // by agent and series: the fields of a TimeSeries before its sample
	n      int      // series of an agent
	plain  []byte
}

func promName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}

func newRemoteWrite(told header) *remoteWrite {
	w := &remoteWrite{n: len(told.Series)}
	for agent := 0; agent < told.Agents; agent++ {
		for _, s := range told.Series {
			labels := map[string]string{"__name__": promName(s.Name), "agent": fmt.Sprintf("bench-%d", agent)}
			for key, value := range s.Attributes {
				labels[promName(key)] = value
			}
			w.labels = append(w.labels, appendLabels(nil, labels))
		}
	}
	return w
}

func appendLabels(to []byte, labels map[string]string) []byte {
	keys := make([]string, 0, len(labels))
	for key := range labels {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		var label []byte
		label = protowire.AppendTag(label, 1, protowire.BytesType)
		label = protowire.AppendString(label, key)
		label = protowire.AppendTag(label, 2, protowire.BytesType)
		label = protowire.AppendString(label, labels[key])
		to = protowire.AppendTag(to, 1, protowire.BytesType)
		to = protowire.AppendBytes(to, label)
	}
	return to
}

func (w *remoteWrite) encode(to []byte, rows []row) []byte {
	var sample []byte
	w.plain = w.plain[:0]
	for _, r := range rows {
		for i, value := range r.values {
			labels := w.labels[r.agent*w.n+i]
			sample = protowire.AppendTag(sample[:0], 1, protowire.Fixed64Type)
			sample = protowire.AppendFixed64(sample, floatBits(value))
			sample = protowire.AppendTag(sample, 2, protowire.VarintType)
			sample = protowire.AppendVarint(sample, uint64(r.timeUs/1000))
			w.plain = protowire.AppendTag(w.plain, 1, protowire.BytesType)
			w.plain = protowire.AppendVarint(w.plain, uint64(len(labels)+1+protowire.SizeBytes(len(sample))))
			w.plain = append(w.plain, labels...)
			w.plain = protowire.AppendTag(w.plain, 2, protowire.BytesType)
			w.plain = protowire.AppendBytes(w.plain, sample)
		}
	}
	return append(to, snappy.Encode(nil, w.plain)...)
}
