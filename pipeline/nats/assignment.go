package nats

import (
	"cmp"
	"slices"
)

// assignment says who owns each partition, by member; "" is nobody.
type assignment []string

// of lists the partitions of a member.
func (a assignment) of(member string) []int {
	var list []int
	for i, owner := range a {
		if owner == member {
			list = append(list, i)
		}
	}
	return list
}

// share returns how many partitions a member should have: all have the same number, and where that does not come out even,
// those that have most have one more, so that as few as possible change hands.
func (a assignment) share(member string, members []string) int {
	ranked := slices.Clone(members)
	slices.SortFunc(ranked, func(x, y string) int {
		return cmp.Or(cmp.Compare(len(a.of(y)), len(a.of(x))), cmp.Compare(x, y))
	})
	n := len(a) / len(members)
	if slices.Index(ranked, member) < len(a)%len(members) {
		n++
	}
	return n
}

// without returns a copy in which nobody owns what these members did.
func (a assignment) without(members map[string]bool) assignment {
	next := slices.Clone(a)
	for i, owner := range next {
		if members[owner] {
			next[i] = ""
		}
	}
	return next
}

// claim gives a member free partitions until it has its share.
func (a assignment) claim(member string, share int) {
	for n := len(a.of(member)); n < share; n++ {
		free := slices.Index(a, "")
		if free < 0 {
			return
		}
		a[free] = member
	}
}
