// For TypeDoc: what would be there twice, or is said elsewhere, goes.
import { Converter, PageEvent, ReflectionKind } from 'typedoc'

export function load({ converter, renderer }) {
  converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    const of = (kind) => project.getReflectionsByKind(kind)
    // Of `session` the function stays: what is in the namespace of that name has pages of its own.
    const namespaces = of(ReflectionKind.Namespace)
    // A class that is made by a function is an interface, with the name of what its constructor is.
    const interfaces = new Set(of(ReflectionKind.Interface).map(({ name }) => name))
    const constructors = of(ReflectionKind.TypeAlias).filter(({ name }) => interfaces.has(name))
    for (const reflection of [...namespaces, ...constructors]) project.removeReflection(reflection)
  })
  converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => {
    for (const member of project.getReflectionsByKind(ReflectionKind.ClassMember)) {
      if (member.inheritedFrom) project.removeReflection(member)
    }
  })
  // A union in a table does not begin with the sign for "or".
  renderer.on(PageEvent.END, (page) => {
    page.contents = page.contents?.replaceAll('| \\| ', '| ')
  })
}
