package link

// backlog is a list of calls, first come, first served. A call leaves it in constant
// time, since its caller may give up.
type backlog struct {
	first, last *Call
	length      int32
}

func (b *backlog) push(k *Call) {
	k.waiting, k.previous, k.next = true, b.last, nil
	if b.last == nil {
		b.first = k
	} else {
		b.last.next = k
	}
	b.last = k
	b.length++
}

func (b *backlog) pushFront(k *Call) {
	k.waiting, k.previous, k.next = true, nil, b.first
	if b.first == nil {
		b.last = k
	} else {
		b.first.previous = k
	}
	b.first = k
	b.length++
}

func (b *backlog) remove(k *Call) {
	if k.previous == nil {
		b.first = k.next
	} else {
		k.previous.next = k.next
	}
	if k.next == nil {
		b.last = k.previous
	} else {
		k.next.previous = k.previous
	}
	k.waiting, k.previous, k.next = false, nil, nil
	b.length--
}

// take removes the calls that match and returns them.
func (b *backlog) take(match func(*Call) bool) []*Call {
	var taken []*Call
	for k := b.first; k != nil; {
		next := k.next
		if match(k) {
			b.remove(k)
			taken = append(taken, k)
		}
		k = next
	}
	return taken
}
