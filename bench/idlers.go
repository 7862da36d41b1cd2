package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	verbIdlers  = "idlers"
	idlersReady = "ready"

	// openers is how many connections are opened at the same time.
	openers = 32
	// portsPerAddress is how many connections start from one loopback address: Linux has 28,000 ports for them.
	portsPerAddress = 20_000
	exchangeTime    = 10 * time.Second
)

// runIdlers opens connections, lets each be served one task, prints "ready" and holds them. For each line it
// reads it has all connections served once more and prints how many were. It ends when its input ends.
func runIdlers(args []string, s streams) error {
	flags := flag.NewFlagSet(verbIdlers, flag.ContinueOnError)
	flags.SetOutput(s.err)
	to := flags.String("to", "", "address of the server")
	connections := flags.Int("connections", 1000, "how many connections to hold")
	if err := flags.Parse(args); err != nil {
		return err
	}
	held := make([]net.Conn, *connections)
	defer func() {
		for _, conn := range held {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	err := eachOf(len(held), func(i int) (err error) {
		if held[i], err = dialFrom(i, *to); err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
		return serveOnce(held[i])
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, idlersReady)
	for input := bufio.NewScanner(s.in); input.Scan(); {
		served := make([]bool, len(held))
		err := eachOf(len(held), func(i int) error {
			err := serveOnce(held[i])
			served[i] = err == nil
			return err
		})
		count := 0
		for _, ok := range served {
			if ok {
				count++
			}
		}
		fmt.Fprintln(s.err, err)
		fmt.Fprintf(s.out, "%d of %d\n", count, len(held))
	}
	return nil
}

// eachOf calls do for 0 to n-1 from several goroutines and returns the first few errors.
func eachOf(n int, do func(i int) error) error {
	next := make(chan int)
	errs := make([]error, openers)
	var group sync.WaitGroup
	for w := range openers {
		group.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					errs[w] = err
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	group.Wait()
	return errors.Join(errs...)
}

// dialFrom spreads the connections over several loopback addresses when one has too few ports.
func dialFrom(i int, to string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: exchangeTime}
	if block := i / portsPerAddress; block > 0 {
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+block))}
	}
	return dialer.DialContext(context.Background(), "tcp", to)
}

// serveOnce has one task served on a connection that stays open.
func serveOnce(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(exchangeTime)); err != nil {
		return err
	}
	if err := exchange(conn); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}
