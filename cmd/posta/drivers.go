package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/posta-tasks/posta/cmd/posta/exit"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/sqlite"
)

// openStore opens the store that a URL names. The caller closes it.
func openStore(ctx context.Context, url string, logger *slog.Logger) (store.Store, error) {
	path, ok := strings.CutPrefix(url, "sqlite://")
	if !ok || path == "" {
		return nil, exit.Fail(exit.Config, "allowed is sqlite://FILE, such as sqlite://posta.db", "no store is known as %q", url)
	}
	s, err := sqlite.Open(sqlite.Config{Path: path, Logger: logger})
	if err != nil {
		return nil, exit.Fail(exit.Config, "one process has a store's file to itself; --store or --data names another", "store %s: %w", url, err)
	}
	// The file is this process's alone, so whatever runs by its account died with another.
	if _, err := s.Recover(ctx, ""); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openData opens the store in a data directory, which is made if it is not there.
func openData(ctx context.Context, dir string, logger *slog.Logger) (store.Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, exit.Fail(exit.Config, "--data names the directory for durable tasks", "%w", err)
	}
	return openStore(ctx, "sqlite://"+filepath.Join(dir, "posta.db"), logger)
}

// work is what a node of this process needs to work a store's tasks. The first node is the
// one that runs suspects.
func work(s store.Store, hub *durable.Hub, first bool) *durable.Config {
	if s == nil {
		return nil
	}
	return &durable.Config{Store: s, Hub: hub, Lone: first}
}
