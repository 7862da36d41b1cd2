package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	verifiedTasks = 2_000
	verifyDepth   = 64
	verifyTime    = 20 * time.Second
)

// Verify checks what the load only samples: that every id comes back exactly once, with the right result. It is
// called once for every path to Posta before measurements.
func Verify(ctx context.Context, addr string) error {
	conn, err := Dial(ctx, addr, verifyTime)
	if err != nil {
		return err
	}
	defer conn.Close()
	script := &Script{base: FirstID, ring: verifiedTasks}
	for i := range verifiedTasks {
		script.lines = appendRequest(script.lines, FirstID+i, "upper")
	}
	script.size = len(script.lines) / verifiedTasks
	if _, err := conn.Write(script.Take(verifyDepth)); err != nil {
		return err
	}
	seen := make(map[int]bool, verifiedTasks)
	replies := bufio.NewScanner(conn)
	for sent := verifyDepth; len(seen) < verifiedTasks && replies.Scan(); {
		id, err := verifyReply(replies.Bytes())
		if err != nil {
			return err
		}
		if seen[id] || id < FirstID || id >= FirstID+sent {
			return fmt.Errorf("id %d was answered twice or never sent", id)
		}
		seen[id] = true
		if sent == verifiedTasks {
			continue
		}
		if _, err := conn.Write(script.Take(1)); err != nil {
			return err
		}
		sent++
	}
	if len(seen) < verifiedTasks {
		return errors.Join(fmt.Errorf("only %d of %d tasks were answered", len(seen), verifiedTasks), replies.Err())
	}
	return nil
}

func verifyReply(line []byte) (int, error) {
	var reply struct {
		ID     int    `json:"id"`
		Status string `json:"status"`
		Result struct {
			OK   bool   `json:"ok"`
			Data string `json:"data"`
		} `json:"result"`
	}
	if err := json.Unmarshal(line, &reply); err != nil {
		return 0, errors.Join(Unexpected(line), err)
	}
	if reply.Status != "done" || !reply.Result.OK || reply.Result.Data != "HOLA" {
		return 0, Unexpected(line)
	}
	return reply.ID, nil
}

// OneTask sends one task on a new connection and waits for its reply.
func OneTask(ctx context.Context, addr string) error {
	conn, err := Dial(ctx, addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	return exchange(conn)
}

// exchange sends one task and reads its reply.
func exchange(conn net.Conn) error {
	if _, err := conn.Write(appendRequest(nil, FirstID, "upper")); err != nil {
		return err
	}
	buf := make([]byte, 4*replySize)
	held, lines := 0, 0
	for lines == 0 {
		n, err := conn.Read(buf[held:])
		if err != nil {
			return err
		}
		held += n
		if lines, err = checkReplies(buf[:held]); err != nil {
			return err
		}
	}
	return nil
}

// Dial connects, and sets one deadline for everything on the connection.
func Dial(ctx context.Context, addr string, limit time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: limit}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(limit))
}
