package node

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestTheDefaultBudgetDependsOnTheMemoryThatTheProcessMayUse(t *testing.T) {
	before := debug.SetMemoryLimit(1 << 30)
	defer debug.SetMemoryLimit(before)
	if most := DefaultBuffered(); most > 1<<28 || most < leastBuffered {
		t.Errorf("with GOMEMLIMIT=1GiB the budget is %d", most)
	}
	debug.SetMemoryLimit(100 << 20)
	if most := DefaultBuffered(); most != leastBuffered {
		t.Errorf("with GOMEMLIMIT=100MiB the budget is %d, want the minimum, %d", most, leastBuffered)
	}
}

func TestTheMemoryOfTheMachineAndOfItsControlGroupsIsRead(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(path, text string) string {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if n := physicalMemory(write("meminfo", "MemTotal:        2048 kB\nMemFree: 1 kB\n")); n != 2<<20 {
		t.Errorf("the machine has %d bytes", n)
	}
	for _, text := range []string{"", "MemTotal:", "MemTotal: much kB", "MemTotal: -1 kB"} {
		if n := physicalMemory(write("meminfo", text)); n != math.MaxInt64 {
			t.Errorf("%q is read as %d bytes", text, n)
		}
	}
	if n := physicalMemory(filepath.Join(root, "missing")); n != math.MaxInt64 {
		t.Errorf("a missing file is read as %d bytes", n)
	}
	none := filepath.Join(root, "missing")
	if n := groupMemory(none, none); n != math.MaxInt64 {
		t.Errorf("without control groups the limit is %d bytes", n)
	}
	two := filepath.Join(root, "two")
	write("two/memory.max", "max\n")
	write("two/system/memory.max", "3000\n")
	write("two/system/posta.service/memory.max", "5000\n")
	if n := groupMemory(two, write("cgroup", "0::/system/posta.service\n")); n != 3000 {
		t.Errorf("the limit is %d, want 3000", n)
	}
	one := filepath.Join(root, "one")
	write("one/memory/docker/x/memory.limit_in_bytes", "7000\n")
	if n := groupMemory(one, write("cgroup", "5:cpu:/\n4:memory:/docker/x\n")); n != 7000 {
		t.Errorf("the limit with version 1 is %d, want 7000", n)
	}
	write("one/memory/memory.limit_in_bytes", "6000\n")
	if n := groupMemory(one, none); n != 6000 {
		t.Errorf("the limit of the container's own group is %d, want 6000", n)
	}
}
