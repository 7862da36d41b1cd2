package node

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestTheBudgetFollowsFromTheMemoryThatTheProcessMayUse(t *testing.T) {
	before := debug.SetMemoryLimit(1 << 30)
	defer debug.SetMemoryLimit(before)
	if most := defaultBuffered(); most > 1<<28 || most < leastBuffered {
		t.Errorf("with GOMEMLIMIT=1GiB it is %d", most)
	}
	debug.SetMemoryLimit(100 << 20)
	if most := defaultBuffered(); most != leastBuffered {
		t.Errorf("with GOMEMLIMIT=100MiB it is %d, want the least, %d", most, leastBuffered)
	}
}

func TestTheMemoryOfTheMachineAndOfItsGroupsIsRead(t *testing.T) {
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
			t.Errorf("%q becomes %d bytes", text, n)
		}
	}
	if n := physicalMemory(filepath.Join(root, "missing")); n != math.MaxInt64 {
		t.Errorf("a missing file becomes %d bytes", n)
	}
	none := filepath.Join(root, "missing")
	if n := groupMemory(none, none); n != math.MaxInt64 {
		t.Errorf("without groups there are %d bytes", n)
	}
	two := filepath.Join(root, "two")
	write("two/memory.max", "max\n")
	write("two/system/memory.max", "3000\n")
	write("two/system/posta.service/memory.max", "5000\n")
	if n := groupMemory(two, write("cgroup", "0::/system/posta.service\n")); n != 3000 {
		t.Errorf("of 3000 around 5000 come %d", n)
	}
	one := filepath.Join(root, "one")
	write("one/memory/docker/x/memory.limit_in_bytes", "7000\n")
	if n := groupMemory(one, write("cgroup", "5:cpu:/\n4:memory:/docker/x\n")); n != 7000 {
		t.Errorf("of 7000 in version 1 come %d", n)
	}
	write("one/memory/memory.limit_in_bytes", "6000\n")
	if n := groupMemory(one, none); n != 6000 {
		t.Errorf("of a container's own group of 6000 come %d", n)
	}
}
