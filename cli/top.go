package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/doctor"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/cli/top"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// plainColumns is the width of what posta top prints into a pipe.
const plainColumns = 120

func newTop(out *terminal.Outside) *cobra.Command {
	once, asJSON := false, false
	cmd := &cobra.Command{
		Use:     "top",
		GroupID: groupLook,
		Short:   "Show nodes, workers, queues and tasks live",
		Long: `Shows the live nodes and the workers with their slots, the queues with their counts and
rates, and the running and recent durable tasks, and reads them again every second. Keys
pause and resume a queue, and cancel and retry a task; ? lists them, q quits. In a pipe,
or with --once, it prints everything once. While nothing answers, it says so and tries
again. At most 200 running and 50 recent tasks are shown. The workers are those of the
process that answers, as with ` + "`posta workers`" + `.`,
		Example: `  posta top
  posta top --to 10.0.0.5:9000
  posta top --once --json`,
		Args: arguments(0, 0),
	}
	cmd.Flags().BoolVar(&once, "once", false, "print everything once, as plain text")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print everything once, as one JSON object")
	to := addTarget(out, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := to.Client(2, -1)
		if err != nil {
			return err
		}
		defer c.Close()
		system := &liveSystem{client: c, web: doctor.System{Now: time.Now}}
		system.web.Web, system.web.Base = to.SameWeb() // nodes of other processes list other workers
		if once || asJSON || !out.ResultsToTerminal() {
			return to.Unserved(printOnce(cmd.Context(), out, system, asJSON))
		}
		return showLive(cmd.Context(), out, top.Config{System: system, Addr: to.Addr, Paint: out.ResultPaint(), Fault: func(err error) string {
			return withoutSecrets(classify(to.Unserved(err)).Err.Error(), append(ownVariables(out), out.Args...))
		}})
	}
	return cmd
}

// printOnce prints everything once.
func printOnce(ctx context.Context, out *terminal.Outside, system top.System, asJSON bool) error {
	ctx, cancel := context.WithTimeout(ctx, top.Patience)
	defer cancel()
	now, err := system.Read(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(out.Results()).Encode(now)
	}
	columns := plainColumns
	if out.ResultsToTerminal() {
		columns = out.Width()
	}
	for _, note := range now.Notes {
		out.Talk("posta: warning: %s", note)
	}
	_, err = io.WriteString(out.Stdout, top.Text(now, columns, out.ResultPaint()))
	return err
}

// showLive shows the system until the user quits or ctx ends.
func showLive(ctx context.Context, out *terminal.Outside, config top.Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a poll that is under way
	_, err := tea.NewProgram(top.New(ctx, config), tea.WithContext(ctx), tea.WithInput(out.Stdin), tea.WithOutput(out.Stdout),
		tea.WithEnvironment(out.Env), tea.WithWindowSize(80, 24), tea.WithoutSignalHandler()).Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// liveSystem reads and changes a running system.
type liveSystem struct {
	client *client.Client
	web    doctor.System
}

// Read reads all parts at the same time. A part that is refused is missing, and noted. Read fails if nothing answers,
// or if everything is refused.
func (l *liveSystem) Read(ctx context.Context) (*top.Snapshot, error) {
	s := &top.Snapshot{At: time.Now(), Nodes: []doctor.Node{}, Workers: []doctor.Worker{}, Queues: []client.Queue{}, Running: []client.Record{}, Recent: []client.Record{}}
	parts := []struct {
		name string
		read func() error
	}{
		{"queues", func() error { return into(&s.Queues)(l.client.Queues(ctx)) }},
		{"running tasks", func() error { return l.list(ctx, &s.Running, task.Running, top.RunningTasks) }},
		{"recent tasks", func() error { return l.list(ctx, &s.Recent, "", top.RecentTasks) }},
		{"nodes", func() error { return into(&s.Nodes)(l.web.Nodes(ctx)) }},
		{"workers", func() error { return into(&s.Workers)(l.web.Workers(ctx)) }},
	}
	errs := make([]error, len(parts))
	var reading sync.WaitGroup
	for i := range parts {
		reading.Go(func() { errs[i] = parts[i].read() })
	}
	reading.Wait()
	var refusal *task.Error
	for i, err := range errs {
		switch {
		case err == nil:
		case errors.As(err, &refusal):
			s.Notes = append(s.Notes, fmt.Sprintf("the %s are missing: %s", parts[i].name, err))
		default:
			return nil, err
		}
	}
	if len(s.Notes) == len(parts) {
		return nil, errs[0]
	}
	return s, nil
}

// into returns a function that stores a list unless there is an error or the list is nil.
func into[T any](list *[]T) func([]T, error) error {
	return func(read []T, err error) error {
		if err == nil && read != nil {
			*list = read
		}
		return err
	}
}

// list reads the newest tasks in a state; "" means any.
func (l *liveSystem) list(ctx context.Context, tasks *[]client.Record, state task.State, most int) error {
	page, err := l.client.List(ctx, client.Query{Filter: client.Filter{State: state}, Limit: most})
	return into(tasks)(page.Tasks, err)
}

// SetPaused implements top.System.
func (l *liveSystem) SetPaused(ctx context.Context, queue string, paused bool) error {
	if paused {
		return l.client.Pause(ctx, queue)
	}
	return l.client.Resume(ctx, queue)
}

// Cancel implements top.System.
func (l *liveSystem) Cancel(ctx context.Context, id string) (cancelling bool, err error) {
	return l.client.Cancel(ctx, id)
}

// Retry implements top.System.
func (l *liveSystem) Retry(ctx context.Context, id string) error {
	_, err := l.client.Retry(ctx, id)
	return err
}
