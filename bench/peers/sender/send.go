// SPDX-License-Identifier: Apache-2.0
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

var exportMethods = map[string]string{
	"otlp":      "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
	"otlp_logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}

type payload struct {
	samples int
	bytes   []byte
}

// lane is one connection: its requests go one after the other.
type lane struct {
	payloads []payload
	post     func(body []byte) error
}

func loadPayloads(path string, connections int) ([]lane, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	all, err := syscall.Mmap(int(file.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED|syscall.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	lanes := make([]lane, connections)
	for at := 0; at < len(all); {
		if len(all)-at < 12 {
			return nil, fmt.Errorf("%s is cut off", path)
		}
		group := int(binary.LittleEndian.Uint32(all[at:]))
		samples := int(binary.LittleEndian.Uint32(all[at+4:]))
		length := int(binary.LittleEndian.Uint32(all[at+8:]))
		if length > len(all)-at-12 {
			return nil, fmt.Errorf("%s is cut off", path)
		}
		to := &lanes[group%connections]
		to.payloads = append(to.payloads, payload{samples, all[at+12 : at+12+length]})
		at += 12 + length
	}
	return lanes, nil
}

func postRemoteWrite(client *http.Client, url string, body []byte) error {
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Encoding", "snappy")
	request.Header.Set("Content-Type", "application/x-protobuf")
	request.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	told, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", response.Status, told)
	}
	return err
}

// rawCodec hands bytes through.
type rawCodec struct{}

func (rawCodec) Name() string                      { return "proto" }
func (rawCodec) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, to any) error {
	*to.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func postOtlp(conn *grpc.ClientConn, method string, body []byte) error {
	var answer []byte
	if err := conn.Invoke(context.Background(), method, &body, &answer, grpc.ForceCodec(rawCodec{})); err != nil {
		return err
	}
	if len(answer) > 2 { // an empty partial_success takes two bytes
		return fmt.Errorf("partial success: %q", answer)
	}
	return nil
}

func connect(lanes []lane, format, target string) error {
	for i := range lanes {
		if format == "remote_write" {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: time.Minute}
			lanes[i].post = func(body []byte) error { return postRemoteWrite(client, target, body) }
			continue
		}
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		lanes[i].post = func(body []byte) error { return postOtlp(conn, exportMethods[format], body) }
	}
	return nil
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// Everything is answered with success, or it is an error.
func sendAll(path, format, target string, connections int) error {
	lanes, err := loadPayloads(path, connections)
	if err == nil {
		err = connect(lanes, format, target)
	}
	if err != nil {
		return err
	}
	var wait sync.WaitGroup
	failures := make(chan error, connections)
	cpu, from := cpuSeconds(), time.Now()
	samples, wire := 0, 0
	for i := range lanes {
		for _, one := range lanes[i].payloads {
			samples += one.samples
			wire += len(one.bytes)
		}
		wait.Add(1)
		go func(l *lane) {
			defer wait.Done()
			for _, one := range l.payloads {
				if err := l.post(one.bytes); err != nil {
					failures <- err
					return
				}
			}
		}(&lanes[i])
	}
	wait.Wait()
	select {
	case err := <-failures:
		return err
	default:
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"samples": samples, "seconds": time.Since(from).Seconds(), "sender_cpu_s": cpuSeconds() - cpu,
		"wire_bytes_per_sample": float64(wire) / float64(samples)})
}
