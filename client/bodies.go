package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/task"
)

// maxProblem is how many bytes of a refusal over HTTP are read.
const maxProblem = 64 << 10

// bodies carries payloads and results that do not fit into a line, by HTTP to the port that the worker is connected to.
type bodies struct {
	http  *http.Client
	pool  *http.Transport
	token string
}

func newBodies(r *workerRun) *bodies {
	pool := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return r.dial(ctx) }}
	return &bodies{http: &http.Client{Transport: pool}, pool: pool, token: r.Token}
}

func (b *bodies) close() { b.pool.CloseIdleConnections() }

// send sends a request and returns the response, which the caller closes, if its status is 200 or 201.
func (b *bodies) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	// The transport connects to the node by itself, encrypted where lines are.
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if b.token != "" {
		request.Header.Set("Authorization", "Bearer "+b.token)
	}
	response, err := b.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK || response.StatusCode == http.StatusCreated {
		return response, nil
	}
	defer response.Body.Close()
	var problem struct {
		Code   task.Code `json:"code"`
		Detail string    `json:"detail"`
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, maxProblem))
	if json.Unmarshal(text, &problem) != nil || problem.Code == "" {
		return nil, fmt.Errorf("%s %s: the node answered %s", method, path, response.Status)
	}
	return nil, fmt.Errorf("%s %s: %s: %s", method, path, problem.Code, problem.Detail)
}

// put stores a large result and returns the reference to it as JSON.
func (b *bodies) put(ctx context.Context, data []byte) (json.RawMessage, error) {
	response, err := b.send(ctx, http.MethodPut, "/v1/blobs", data)
	if err != nil {
		return nil, fmt.Errorf("the result was not stored: %w", err)
	}
	defer response.Body.Close()
	var stored struct {
		Blob json.RawMessage `json:"blob"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxProblem)).Decode(&stored); err != nil || stored.Blob == nil {
		return nil, fmt.Errorf("the result was not stored: the node's answer has no blob")
	}
	var line bytes.Buffer
	if err := json.Compact(&line, stored.Blob); err != nil {
		return nil, err
	}
	return line.Bytes(), nil
}

// opener returns a function that opens a large payload.
func (b *bodies) opener(href string) actions.Opener {
	return func(ctx context.Context) (io.ReadCloser, error) {
		response, err := b.send(ctx, http.MethodGet, href, nil)
		if err != nil {
			return nil, fmt.Errorf("the payload cannot be read: %w", err)
		}
		return response.Body, nil
	}
}

// read reads a large payload into memory.
func (b *bodies) read(ctx context.Context, href string) ([]byte, error) {
	body, err := b.opener(href)(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	payload, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("the payload cannot be read: %w", err)
	}
	return bytes.TrimSpace(payload), nil
}
