package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"

	"github.com/posta-tasks/posta/lab/bench/load"
)

const (
	verbIdlers  = "idlers"
	idlersReady = "ready"
)

// runIdlers opens connections, sends one task on each, prints "ready" and keeps them open. For each line that it
// reads, it sends one more task on each connection and prints how many were answered. It ends when its input ends.
func runIdlers(ctx context.Context, args []string, s streams) error {
	flags := flag.NewFlagSet(verbIdlers, flag.ContinueOnError)
	flags.SetOutput(s.err)
	to := flags.String("to", "", "address of the server")
	connections := flags.Int("connections", 1000, "how many connections to hold")
	if err := flags.Parse(args); err != nil {
		return err
	}
	idle, err := load.Open(ctx, *to, *connections)
	if err != nil {
		return err
	}
	defer idle.Close()
	fmt.Fprintln(s.out, idlersReady)
	input := bufio.NewScanner(s.in)
	for input.Scan() {
		served, err := idle.Serve()
		if err != nil {
			fmt.Fprintln(s.err, err)
		}
		fmt.Fprintf(s.out, "%d of %d\n", served, *connections)
	}
	return input.Err()
}
