// SPDX-License-Identifier: Apache-2.0

// Sends what `sentinel-bench export` wrote to systems that speak remote_write or OTLP/gRPC. In two steps, so that nothing is
// encoded while something is measured:
//
//	sender encode --format remote_write|otlp --batch SAMPLES <fleet >payloads
//	sender send --format ... --target URL|HOST:PORT --connections N payloads
//
// Log lines come encoded: sentinel-bench export-logs >payloads, then sender send --format otlp_logs.
//
// A payload is one request. Agents are divided into groups, each on one connection, with one request under way: a series'
// samples arrive in order. A file of payloads: (u32 group, u32 samples, u32 length, bytes)*, little-endian.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
)

const magic = "SNTLFLT1"

type series struct {
	Name       string            `json:"name"`
	Unit       string            `json:"unit"`
	IsCounter  bool              `json:"is_counter"`
	Attributes map[string]string `json:"attributes"`
}

type header struct {
	Agents  int      `json:"agents"`
	Scrapes int      `json:"scrapes"`
	Series  []series `json:"series"`
}

// row is one agent's scrape.
type row struct {
	agent  int
	timeUs int64
	values []float64
}

// encoder appends one request with the rows.
type encoder interface {
	encode(to []byte, rows []row) []byte
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: sender encode|send ..."))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	format := flags.String("format", "", "remote_write, otlp, otlp_logs")
	batch := flags.Int("batch", 10000, "encode: samples in a request, about")
	target := flags.String("target", "", "send: URL, or HOST:PORT")
	connections := flags.Int("connections", 4, "send: at once")
	if err := flags.Parse(os.Args[2:]); err != nil {
		fail(err)
	}
	if *format != "remote_write" && *format != "otlp" && (*format != "otlp_logs" || os.Args[1] != "send") {
		fail(fmt.Errorf("--format: remote_write or otlp, or otlp_logs to send what `sentinel-bench export-logs` wrote; not %q", *format))
	}
	var err error
	switch os.Args[1] {
	case "encode":
		err = encodeAll(os.Stdin, os.Stdout, *format, *batch)
	case "send":
		err = sendAll(flags.Arg(0), *format, *target, *connections)
	default:
		err = fmt.Errorf("no command %q", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "sender:", err)
	os.Exit(1)
}

func readHeader(from io.Reader) (header, error) {
	var head [12]byte
	var told header

	if _, err := io.ReadFull(from, head[:]); err != nil || string(head[:8]) != magic {
		return told, fmt.Errorf("this is not what sentinel-bench export writes")
	}
	text := make([]byte, binary.LittleEndian.Uint32(head[8:]))
	if _, err := io.ReadFull(from, text); err != nil {
		return told, err
	}
	return told, json.Unmarshal(text, &told)
}

func encodeAll(from io.Reader, to io.Writer, format string, batch int) error {
	in, out := bufio.NewReaderSize(from, 1<<20), bufio.NewWriterSize(to, 1<<20)
	told, err := readHeader(in)
	if err != nil {
		return err
	}
	var with encoder = newOtlp(told)
	if format == "remote_write" {
		with = newRemoteWrite(told)
	}
	perGroup := max(1, batch/len(told.Series))
	raw := make([]byte, 8+8*len(told.Series))
	rows := make([]row, perGroup)
	for i := range rows {
		rows[i].values = make([]float64, len(told.Series))
	}
	var request []byte
	for scrape := 0; scrape < told.Scrapes; scrape++ {
		for agent := 0; agent < told.Agents; agent += perGroup {
			n := min(perGroup, told.Agents-agent)
			for i := 0; i < n; i++ {
				if _, err := io.ReadFull(in, raw); err != nil {
					return err
				}
				rows[i].agent = agent + i
				rows[i].timeUs = int64(binary.LittleEndian.Uint64(raw))
				for k := range rows[i].values {
					rows[i].values[k] = math.Float64frombits(binary.LittleEndian.Uint64(raw[8+8*k:]))
				}
			}
			request = with.encode(request[:0], rows[:n])
			var front [12]byte
			binary.LittleEndian.PutUint32(front[0:], uint32(agent/perGroup))
			binary.LittleEndian.PutUint32(front[4:], uint32(n*len(told.Series)))
			binary.LittleEndian.PutUint32(front[8:], uint32(len(request)))
			if _, err := out.Write(front[:]); err != nil {
				return err
			}
			if _, err := out.Write(request); err != nil {
				return err
			}
		}
	}
	return out.Flush()
}
