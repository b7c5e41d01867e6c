// SPDX-License-Identifier: Apache-2.0
package main

import (
	"fmt"
	"math"
	"sort"

	"google.golang.org/protobuf/encoding/protowire"
)

func floatBits(value float64) uint64 { return math.Float64bits(value) }

// OTLP: an ExportMetricsServiceRequest with a resource for each agent; points of one name lie in one metric.
type otlp struct {
	metrics []otlpMetric
	points  [][]byte // by series: the attributes of its data point
}

type otlpMetric struct {
	series    []int
	front     []byte // name and unit
	isCounter bool
}

func appendAttribute(to []byte, field protowire.Number, key, value string) []byte {
	var anyValue, pair []byte
	anyValue = protowire.AppendTag(anyValue, 1, protowire.BytesType)
	anyValue = protowire.AppendString(anyValue, value)
	pair = protowire.AppendTag(pair, 1, protowire.BytesType)
	pair = protowire.AppendString(pair, key)
	pair = protowire.AppendTag(pair, 2, protowire.BytesType)
	pair = protowire.AppendBytes(pair, anyValue)
	to = protowire.AppendTag(to, field, protowire.BytesType)
	return protowire.AppendBytes(to, pair)
}

func newOtlp(told header) *otlp {
	o := &otlp{}
	byName := map[string]int{}
	for i, s := range told.Series {
		at, isKnown := byName[s.Name]
		if !isKnown {
			at = len(o.metrics)
			byName[s.Name] = at
			var front []byte
			front = protowire.AppendTag(front, 1, protowire.BytesType)
			front = protowire.AppendString(front, s.Name)
			front = protowire.AppendTag(front, 3, protowire.BytesType)
			front = protowire.AppendString(front, s.Unit)
			o.metrics = append(o.metrics, otlpMetric{front: front, isCounter: s.IsCounter})
		}
		o.metrics[at].series = append(o.metrics[at].series, i)
		keys := make([]string, 0, len(s.Attributes))
		for key := range s.Attributes {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		var attributes []byte
		for _, key := range keys {
			attributes = appendAttribute(attributes, 7, key, s.Attributes[key])
		}
		o.points = append(o.points, attributes)
	}
	return o
}

func (o *otlp) appendMetric(to []byte, metric *otlpMetric, r row) []byte {
	var data, point, whole []byte
	for _, i := range metric.series {
		point = protowire.AppendTag(point[:0], 3, protowire.Fixed64Type)
		point = protowire.AppendFixed64(point, uint64(r.timeUs)*1000)
		point = protowire.AppendTag(point, 4, protowire.Fixed64Type)
		point = protowire.AppendFixed64(point, floatBits(r.values[i]))
		point = append(point, o.points[i]...)
		data = protowire.AppendTag(data, 1, protowire.BytesType)
		data = protowire.AppendBytes(data, point)
	}
	kind := protowire.Number(5) // gauge
	if metric.isCounter {
		kind = 7 // sum: cumulative, monotonic
		data = protowire.AppendTag(data, 2, protowire.VarintType)
		data = protowire.AppendVarint(data, 2)
		data = protowire.AppendTag(data, 3, protowire.VarintType)
		data = protowire.AppendVarint(data, 1)
	}
	whole = append(whole, metric.front...)
	whole = protowire.AppendTag(whole, kind, protowire.BytesType)
	whole = protowire.AppendBytes(whole, data)
	to = protowire.AppendTag(to, 2, protowire.BytesType)
	return protowire.AppendBytes(to, whole)
}

func (o *otlp) encode(to []byte, rows []row) []byte {
	for _, r := range rows {
		var resource, scope, whole []byte
		resource = appendAttribute(resource, 1, "host.name", fmt.Sprintf("bench-%d", r.agent))
		for i := range o.metrics {
			scope = o.appendMetric(scope, &o.metrics[i], r)
		}
		whole = protowire.AppendTag(whole, 1, protowire.BytesType)
		whole = protowire.AppendBytes(whole, resource)
		whole = protowire.AppendTag(whole, 2, protowire.BytesType)
		whole = protowire.AppendBytes(whole, scope)
		to = protowire.AppendTag(to, 1, protowire.BytesType)
		to = protowire.AppendBytes(to, whole)
	}
	return to
}
