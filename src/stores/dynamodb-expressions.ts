import type { AttributeValue } from '@aws-sdk/client-dynamodb'
import type { Version, WriteCondition } from '../store/record-store'

export type Item = Record<string, AttributeValue>

/** The names of attributes are given apart from expressions, as many are reserved words. */
const NAMES = { '#sess': 'sess', '#expires': 'expires', '#version': 'version', '#type': 'type' }
export const LIVE = 'attribute_exists(#sess) AND (attribute_not_exists(#expires) OR #expires > :now)'
/** connect-dynamodb leaves an item without `sess` when it touches a session that is gone. */
const ABSENT = '(attribute_not_exists(#sess) OR #expires <= :now)'

export interface Condition {
  expression: string
  readonly values: Item
  /** The attribute that is called `#key` in it. */
  readonly key?: string
}

export const ANYTHING: Condition = { expression: '', values: {} }

export function conditionFor(condition: WriteCondition): Condition {
  if (condition === 'always') return ANYTHING
  const values = { ':now': now() }
  if (condition === 'absent') return { expression: ABSENT, values }
  if (condition === 'present') return { expression: LIVE, values }
  const same = ofVersion(condition.version)
  return { expression: `${LIVE} AND ${same.expression}`, values: { ...values, ...same.values } }
}

const BY_TEXT = 'text:'

export function versionOf(item: Item | null): string | undefined {
  return item?.['version']?.S ?? (item?.['sess']?.S === undefined ? undefined : BY_TEXT + item['sess'].S)
}

export function ofVersion(version: Version): Condition {
  const known = String(version)
  return known.startsWith(BY_TEXT)
    ? {
        expression: 'attribute_not_exists(#version) AND #sess = :known',
        values: { ':known': { S: known.slice(BY_TEXT.length) } },
      }
    : { expression: '#version = :known', values: { ':known': { S: known } } }
}

/** Expressions as commands take them, with those names and values that are in them: DynamoDB refuses others. */
export function expressions(update: string, condition: Condition) {
  return {
    ...(update && { UpdateExpression: update }),
    ...(condition.expression && { ConditionExpression: condition.expression }),
    ...namesAndValues(`${update} ${condition.expression}`, condition),
  }
}

export function filters(condition: Condition) {
  const { expression } = condition
  return expression ? { FilterExpression: expression, ...namesAndValues(expression, condition) } : {}
}

function namesAndValues(text: string, { key, values }: Condition) {
  const mentioned = new Set(text.match(/[#:]\w+/g))
  const only = <T>(all: Record<string, T>): Record<string, T> | undefined => {
    const found = Object.entries(all).filter(([name]) => mentioned.has(name))
    return found.length > 0 ? Object.fromEntries(found) : undefined
  }
  const names = only(key === undefined ? NAMES : { ...NAMES, '#key': key })
  const its = only(values)
  return { ...(names && { ExpressionAttributeNames: names }), ...(its && { ExpressionAttributeValues: its }) }
}

export function now(): AttributeValue {
  return { N: String(Date.now() / 1000) }
}
