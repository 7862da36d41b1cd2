package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/lab/chaos/history"
)

// action is an action of a run.
type action func(ctx context.Context, call *actions.Call, p *history.Payload) (history.Result, error)

// chaosActions returns the actions of a run: good ones, whose results can be checked, and bad ones, which fail,
// panic, hang, or kill their process. Each execution is recorded in a journal before it begins and after it has
// ended, so that the checker knows it even if the process died. The actions append to the file journal.
func chaosActions(journal string) ([]actions.Action, error) {
	log, err := history.Append(journal)
	if err != nil {
		return nil, err
	}
	var list []actions.Action
	for _, a := range []struct {
		name string
		do   action
	}{
		{"hash", hash}, {"sleep", sleep}, {"linger", linger}, {"flaky", flaky}, {"refuse", refuse}, {"panic", panics}, {"goexit", goexit},
		{"hang", hang}, {"kill", kill}, {"big", big}, {"progress", progress},
	} {
		list = append(list, actions.Action{Name: "chaos." + a.name, Slow: true, Run: journalled(log, a.do)})
	}
	return list, nil
}

// journalled records each execution of an action.
func journalled(log *history.Log, do action) actions.Func {
	return func(ctx context.Context, call *actions.Call) (any, error) {
		note := func(how string) {
			log.Add(history.Execution{
				At: time.Now().UnixNano(), PID: os.Getpid(), Task: call.Task, Attempt: call.Attempt, Action: call.Action, How: how,
			})
		}
		note(history.Start)
		how := history.Broken
		defer func() { note(how) }()
		var p history.Payload
		if err := json.Unmarshal(call.Payload, &p); err != nil {
			how = history.Failed
			return nil, actions.Permanent(fmt.Errorf("the payload is not one of a chaos run: %w", err))
		}
		result, err := do(ctx, call, &p)
		if how = history.Done; err != nil {
			how = history.Failed
		}
		return result, err
	}
}

// answer returns the result of an action that succeeds. It has the number of the attempt.
func answer(call *actions.Call, p *history.Payload) history.Result {
	return history.Result{Hash: history.Hash(p.Nonce), Attempt: call.Attempt}
}

func hash(_ context.Context, call *actions.Call, p *history.Payload) (history.Result, error) {
	return answer(call, p), nil
}

// sleep waits for p.MS milliseconds or for the end of ctx.
func sleep(ctx context.Context, call *actions.Call, p *history.Payload) (history.Result, error) {
	timer := time.NewTimer(time.Duration(p.MS) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return answer(call, p), nil
	case <-ctx.Done():
		return history.Result{}, ctx.Err()
	}
}

// linger takes longer than a lease in its first attempt and ignores its context. Later attempts take p.Later
// milliseconds.
func linger(ctx context.Context, call *actions.Call, p *history.Payload) (history.Result, error) {
	if call.Attempt > 1 {
		return sleep(ctx, call, &history.Payload{Nonce: p.Nonce, MS: p.Later})
	}
	return hang(ctx, call, p)
}

// flaky fails in its first attempts.
func flaky(_ context.Context, call *actions.Call, p *history.Payload) (history.Result, error) {
	if call.Attempt <= p.Fails {
		return history.Result{}, fmt.Errorf("attempt %d fails, as it was asked to", call.Attempt)
	}
	return answer(call, p), nil
}

// refuse fails permanently.
func refuse(context.Context, *actions.Call, *history.Payload) (history.Result, error) {
	return history.Result{}, actions.Permanent(errors.New("it never succeeds"))
}

func panics(context.Context, *actions.Call, *history.Payload) (history.Result, error) {
	panic("on purpose")
}

func goexit(context.Context, *actions.Call, *history.Payload) (history.Result, error) {
	runtime.Goexit()
	return history.Result{}, nil
}

// hang waits for p.MS milliseconds and ignores its context.
func hang(_ context.Context, call *actions.Call, p *history.Payload) (history.Result, error) {
	<-time.After(time.Duration(p.MS) * time.Millisecond)
	return answer(call, p), nil
}

// kill is the action of a poison task: it kills its process.
func kill(ctx context.Context, _ *actions.Call, _ *history.Payload) (history.Result, error) {
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		return history.Result{}, err
	}
	<-ctx.Done()
	return history.Result{}, ctx.Err()
}

func big(_ context.Context, call *actions.Call, p *history.Payload) (history.Result, error) {
	result := answer(call, p)
	result.Fill = strings.Repeat("x", p.Bytes)
	return result, nil
}

// progress reports its progress five times.
func progress(ctx context.Context, call *actions.Call, p *history.Payload) (history.Result, error) {
	for percent := 0; percent < 100; percent += 20 {
		call.Report(float64(percent), "on its way")
		if _, err := sleep(ctx, call, &history.Payload{MS: p.MS / 5}); err != nil {
			return history.Result{}, err
		}
	}
	return answer(call, p), nil
}
